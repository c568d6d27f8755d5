import type { ByteStream } from '../../net/index.ts'

/** What reading the first bytes led to. */
export interface FirstBytes<T> {
  readonly result: T
  /** All bytes that were read, those that were understood included. */
  readonly bytes: Buffer
}

/**
 * Reads from a connection until the bytes are understood: `understand` gives undefined while there are too few. The
 * connection is paused afterwards. Undefined when it ended, or took too long or too much.
 */
export function readFirstBytes<T>(
  socket: ByteStream,
  understand: (bytes: Buffer) => T | undefined,
  limits: { readonly timeoutMs: number; readonly maxBytes: number; readonly already?: Buffer },
): Promise<FirstBytes<T> | undefined> {
  return new Promise((resolve) => {
    let bytes = limits.already ?? Buffer.alloc(0)
    const timer = setTimeout(() => settle(undefined), limits.timeoutMs)
    const settle = (outcome: FirstBytes<T> | undefined) => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('close', onClosed)
      socket.off('end', onClosed)
      socket.pause()
      resolve(outcome)
    }
    const onClosed = () => settle(undefined)
    const look = (): boolean => {
      const result = understand(bytes)
      if (result !== undefined) settle({ result, bytes })
      else if (bytes.length > limits.maxBytes) settle(undefined)
      else return false
      return true
    }
    const onData = (chunk: Buffer) => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      look()
    }
    if (bytes.length > 0 && look()) return
    socket.on('data', onData)
    socket.once('close', onClosed)
    socket.once('end', onClosed)
    socket.resume()
  })
}
