import { Socket } from 'node:net'
import type { ByteStream } from './dialer.ts'

/** The parts of Node's sockets that reading into a buffer of one's own takes; set up by the constructor alone. */
interface BufferedReading {
  readonly handle: { useUserBuffer(buffer: Uint8Array): void }
  readonly buffer: symbol
  readonly callback: symbol
}

/**
 * Makes a connected TCP socket read into this buffer from now on, and call back with the number of bytes instead of
 * emitting `data`; the callback returns false to stop until `resume()`. Node offers that (`onread`) only for sockets that
 * are made with it, so this sets what the constructor would have set. False, and nothing done, when the stream is
 * no TCP socket, has unread bytes, or this version of Node is built in another way.
 */
export function readInto(stream: ByteStream, buffer: Uint8Array, onRead: (bytes: number) => boolean): boolean {
  if (!(stream instanceof Socket) || stream.readableLength > 0) return false
  const parts = partsOf(stream)
  if (parts === undefined) return false
  Reflect.set(stream, parts.buffer, buffer)
  Reflect.set(stream, parts.callback, onRead)
  parts.handle.useUserBuffer(buffer)
  return true
}

function partsOf(socket: Socket): BufferedReading | undefined {
  const symbols = Object.getOwnPropertySymbols(socket)
  const named = (name: string) => symbols.find((symbol) => symbol.description === name)
  const [buffer, callback, generator] = [named('kBuffer'), named('kBufferCb'), named('kBufferGen')]
  const handle: unknown = Reflect.get(socket, '_handle')
  if (buffer === undefined || callback === undefined || generator === undefined) return undefined
  const isFree = Reflect.get(socket, buffer) === null && Reflect.get(socket, generator) === null
  return isFree && isBufferable(handle) ? { handle, buffer, callback } : undefined
}

function isBufferable(handle: unknown): handle is BufferedReading['handle'] {
  return typeof handle === 'object' && handle !== null && typeof Reflect.get(handle, 'useUserBuffer') === 'function'
}
