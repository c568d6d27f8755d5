import { Duplex } from 'node:stream'
import type { ByteStream } from './dialer.ts'

interface Side {
  readonly stream: ByteStream
  /** Confirms the other side's write once this side has room again. */
  confirmWrite: (() => void) | undefined
}

/**
 * Two byte streams joined in memory: half-close, backpressure, and a destroy before both directions
 * are done reaches the other side as `ECONNRESET`, as TCP does it. Nothing arrives in the tick it was written in.
 */
export function createMemoryStreamPair(options: { readonly highWaterMark?: number } = {}): [ByteStream, ByteStream] {
  const left: Side = createSide(() => right, options.highWaterMark)
  const right: Side = createSide(() => left, options.highWaterMark)
  return [left.stream, right.stream]
}

function createSide(other: () => Side, highWaterMark: number | undefined): Side {
  const stream = new Duplex({
    allowHalfOpen: true,
    ...(highWaterMark === undefined ? {} : { highWaterMark }),
    read() {
      const confirm = side.confirmWrite
      side.confirmWrite = undefined
      confirm?.()
    },
    write(chunk: Buffer, _encoding, done) {
      setImmediate(() => {
        if (other().stream.push(chunk)) done()
        else other().confirmWrite = () => done()
      })
    },
    final(done) {
      setImmediate(() => {
        other().stream.push(null)
        done()
      })
    },
    destroy(error, done) {
      const isComplete = stream.readableEnded && stream.writableFinished
      if (!isComplete) setImmediate(() => other().stream.destroy(resetError()))
      done(error)
    },
  })
  const side: Side = { stream, confirmWrite: undefined }
  return side
}

function resetError(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
}
