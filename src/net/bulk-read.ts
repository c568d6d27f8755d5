import { Socket } from 'node:net'
import type { ByteStream } from './dialer.ts'
import { Turns } from './turns.ts'

/** The parts of Node's sockets that reading into a buffer of one's own takes; set up by the constructor alone. */
interface BufferedReading {
  readonly handle: { useUserBuffer(buffer: Uint8Array): void }
  readonly buffer: symbol
  readonly callback: symbol
  readonly generator: symbol
}

/**
 * One for the process, for sockets that bring little: reads never overlap, so whoever copies out what it keeps before it
 * returns from `onRead` may read here.
 */
export const sharedReadBuffer: Buffer = Buffer.allocUnsafeSlow(65_536)

/** Who reads a socket by buffers of its own. */
export interface BufferReader {
  /** Where the next read goes; looked at after each `onRead`. */
  readonly buffer: Uint8Array
  /** So many bytes stand in `buffer`; false stops reading until `resume()`. */
  onRead(bytes: number): boolean
}

/**
 * Makes a connected TCP socket read into the reader's buffer from now on, and tell it instead of emitting `data`. Node
 * offers that (`onread`) only for sockets that are made with it, so this sets what the constructor would have set. False,
 * and nothing done, when the stream is no TCP socket, has unread bytes, or this version of Node is built in another way.
 * Those that bring much are read in turns (`turns.ts`).
 */
export function readInto(stream: ByteStream, reader: BufferReader): boolean {
  if (!(stream instanceof Socket) || stream.readableLength > 0) return false
  const parts = partsOf(stream)
  if (parts === undefined) return false
  let { buffer } = reader
  Reflect.set(stream, parts.buffer, buffer)
  const turns = new Turns(stream)
  Reflect.set(stream, parts.callback, (bytes: number) => turns.after(bytes, reader.onRead(bytes)))
  Reflect.set(stream, parts.generator, () => {
    if (reader.buffer === buffer) return undefined
    buffer = reader.buffer
    return buffer
  })
  parts.handle.useUserBuffer(buffer)
  return true
}

function partsOf(socket: Socket): BufferedReading | undefined {
  const found = symbolsOf(socket)
  if (found === undefined) return undefined
  const handle: unknown = Reflect.get(socket, '_handle')
  const isFree = Reflect.get(socket, found.buffer) === null && Reflect.get(socket, found.generator) === null
  return isFree && isBufferable(handle) ? { handle, ...found } : undefined
}

type ReadingSymbols = Omit<BufferedReading, 'handle'>

/** Of the prototype of sockets, because all of them are built alike. */
const symbolsByPrototype = new WeakMap<object, ReadingSymbols>()

function symbolsOf(socket: Socket): ReadingSymbols | undefined {
  const prototype: object = Object.getPrototypeOf(socket)
  const known = symbolsByPrototype.get(prototype)
  if (known !== undefined) return known
  const symbols = Object.getOwnPropertySymbols(socket)
  const named = (name: string) => symbols.find((symbol) => symbol.description === name)
  const [buffer, callback, generator] = [named('kBuffer'), named('kBufferCb'), named('kBufferGen')]
  if (buffer === undefined || callback === undefined || generator === undefined) return undefined
  const found = { buffer, callback, generator }
  symbolsByPrototype.set(prototype, found)
  return found
}

function isBufferable(handle: unknown): handle is BufferedReading['handle'] {
  return typeof handle === 'object' && handle !== null && typeof Reflect.get(handle, 'useUserBuffer') === 'function'
}
