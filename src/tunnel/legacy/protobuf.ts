import { type ByteStream, ignoreError } from '../../net/index.ts'
import { FrameError, readBytes } from '../frames.ts'

/*
 * Protocol buffers, as far as the Go system's messages need them, and how they follow each other on a stream: each after
 * its length as an unsigned varint.
 */

const wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const

/** A field with a number in it. */
export function numberField(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8 + wire.varint), varint(value)])
}

/** A field with bytes or text in it. */
export function bytesField(field: number, value: Uint8Array | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value
  return Buffer.concat([varint(field * 8 + wire.bytes), varint(bytes.length), bytes])
}

/** The fields as one message with its length before it. */
export function delimited(fields: readonly Buffer[]): Buffer {
  const body = Buffer.concat(fields)
  return Buffer.concat([varint(body.length), body])
}

/** Writes a message with its length; whoever waits for room waits for the stream's `drain` alone. */
export function writeDelimited(stream: ByteStream, message: Buffer): void {
  if (!stream.listeners('error').includes(ignoreError)) stream.on('error', ignoreError)
  stream.write(message)
}

/** Reads the body of one message and leaves the bytes after it in the stream; undefined when the far end ended before it. */
export async function readDelimited(
  stream: ByteStream,
  limitBytes: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const length = await readLength(stream, signal)
  if (length === undefined) return undefined
  if (length > limitBytes) throw new FrameError(`Cannot read a message of ${length} bytes: the limit is ${limitBytes}`)
  if (length === 0) return Buffer.alloc(0)
  const body = await readBytes(stream, length, signal)
  if (body === undefined) throw new FrameError('Cannot read a message: the stream ended inside it')
  return body
}

/** Three bytes of seven bits are more than any limit. */
const maxLengthBytes = 3

async function readLength(stream: ByteStream, signal: AbortSignal): Promise<number | undefined> {
  let length = 0
  for (let index = 0; index < maxLengthBytes; index++) {
    const [byte] = (await readBytes(stream, 1, signal)) ?? []
    if (byte === undefined) {
      if (index === 0) return undefined
      throw new FrameError('Cannot read a message: the stream ended inside its length')
    }
    length += (byte & 0x7f) * 128 ** index
    if (byte < 0x80) return length
  }
  throw new FrameError('Cannot read a message: its length is too long')
}

function varint(value: number): Buffer<ArrayBuffer> {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7f) {
    bytes.push((rest % 128) | 0x80)
    rest = Math.floor(rest / 128)
  }
  return Buffer.from([...bytes, rest])
}

/**
 * The fields of a message one after the other: numbers and bytes; those of other wire types are left out. Throws a
 * `FrameError` where it is none.
 */
export function* fieldsOf(message: Uint8Array): Generator<readonly [field: number, value: number | Buffer]> {
  const reader = new Reader(message)
  while (!reader.isAtEnd) {
    const key = reader.varint()
    const field = Math.floor(key / 8)
    const type = key % 8
    if (type === wire.varint) yield [field, reader.varint()]
    else if (type === wire.bytes) yield [field, reader.bytes()]
    else reader.skip(type)
  }
}

class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length
  }

  /** Up to 2^53; a negative int32 takes ten bytes and comes out too large for every use here. */
  varint(): number {
    let value = 0
    for (let index = 0; index < 10; index++) {
      const byte = this.#take(1)[0] ?? 0
      value += (byte & 0x7f) * 128 ** index
      if (byte < 0x80) return value
    }
    throw new FrameError('Cannot read a message: a number in it has no end')
  }

  bytes(): Buffer {
    return this.#take(this.varint())
  }

  skip(type: number): void {
    if (type === wire.fixed64) this.#take(8)
    else if (type === wire.fixed32) this.#take(4)
    else throw new FrameError(`Cannot read a message: wire type ${type} is unknown`)
  }

  #take(count: number): Buffer {
    const end = this.#at + count
    if (end > this.#bytes.length) throw new FrameError('Cannot read a message: it is cut off')
    const taken = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return taken
  }
}
