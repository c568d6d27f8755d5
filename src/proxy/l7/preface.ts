import type { ByteStream } from '../../net/index.ts'

/** What a connection begins with, read off it. */
export interface Preface {
  readonly head: Buffer
  /** It speaks HTTP/2 without having asked (RFC 9113, section 3.3), which is carried as bytes. */
  readonly isHttp2: boolean
}

/** No method of HTTP/1.1 begins like this, so three bytes decide. */
const http2Start = Buffer.from('PRI')

/** Reads until it is clear which HTTP this is; undefined when the client ended or the signal aborted before. */
export function readPreface(client: ByteStream, signal: AbortSignal): Promise<Preface | undefined> {
  return new Promise((resolve) => {
    let head: Buffer = Buffer.alloc(0)
    const settle = (preface: Preface | undefined) => {
      client.off('data', onData)
      client.off('end', onOver)
      client.off('close', onOver)
      signal.removeEventListener('abort', onOver)
      client.pause()
      resolve(preface)
    }
    const onData = (chunk: Buffer) => {
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk])
      const start = http2Start.subarray(0, head.length)
      const mayBeHttp2 = start.equals(head.subarray(0, http2Start.length))
      if (!mayBeHttp2 || head.length >= http2Start.length) settle({ head, isHttp2: mayBeHttp2 })
    }
    const onOver = () => settle(undefined)
    client.on('data', onData)
    client.once('end', onOver)
    client.once('close', onOver)
    signal.addEventListener('abort', onOver, { once: true })
    if (client.destroyed || client.readableEnded || signal.aborted) onOver()
  })
}
