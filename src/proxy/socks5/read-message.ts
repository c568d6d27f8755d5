import type { ByteStream } from '../../net/index.ts'
import { maxHeadBytes, type Parsed, SocksError } from './messages.ts'

/**
 * Reads from a client until `parse` has a whole message, and leaves what follows in the stream. Rejects with a
 * `SocksError` or with the signal's reason.
 */
export async function readMessage<Message>(
  client: ByteStream,
  parse: (bytes: Buffer) => Parsed<Message> | undefined,
  signal: AbortSignal,
): Promise<Message> {
  let bytes: Buffer = Buffer.alloc(0)
  for (;;) {
    signal.throwIfAborted()
    const chunk: Buffer | null = client.read()
    if (chunk === null) {
      await moreOf(client, signal)
      continue
    }
    bytes = Buffer.concat([bytes, chunk])
    const parsed = parse(bytes)
    if (parsed !== undefined) {
      // At once: a stream that has ended takes nothing back after a turn.
      if (bytes.length > parsed.length) client.unshift(bytes.subarray(parsed.length))
      return parsed.message
    }
    if (bytes.length > maxHeadBytes) throw new SocksError('a message longer than any may be')
  }
}

async function moreOf(client: ByteStream, signal: AbortSignal): Promise<void> {
  if (client.destroyed || client.readableEnded) throw new SocksError('it went away')
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onReadable = () => resolve()
  const onGone = () => reject(new SocksError('it went away'))
  const onAbort = () => reject(signal.reason)
  client.on('readable', onReadable)
  client.on('end', onGone)
  client.on('close', onGone)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await promise
  } finally {
    client.off('readable', onReadable)
    client.off('end', onGone)
    client.off('close', onGone)
    signal.removeEventListener('abort', onAbort)
  }
}
