/*
 * The messages of the Go system's protocols: proto2, each after its length as an unsigned varint.
 *
 *     Discovery  1 type   2 protocol ("MDNS", "DHT")   3 node name
 *     Proxy      1 type   2 protocol ("tcp", "udp")    3 node name   4 ip   5 port
 *     type       0 CONNECT   1 SUCCESS   2 FAILED
 */
import { type ByteStream, ignoreError } from '../../net/index.ts'
import { FrameError, readBytes } from '../frames.ts'

/** What a message says; the Go system's numbers. */
export const messageTypes = { connect: 0, success: 1, failed: 2 } as const

/** A Discovery or Proxy message; fields that a message lacks are absent. */
export interface LegacyMessage {
  readonly type: number
  readonly protocol?: string
  readonly nodeName?: string
  readonly ip?: string
  readonly port?: number
}

/** The Go system reads no longer messages, and neither do we. */
const limitBytes = 4096

const textFields = { 2: 'protocol', 3: 'nodeName', 4: 'ip' } as const
const wireVarint = 0
const wireFixed64 = 1
const wireBytes = 2
const wireFixed32 = 5

/** The message with its length before it; the type is written also when it is zero, as the Go system does. */
export function encodeMessage(message: LegacyMessage): Buffer {
  const body = [Buffer.of(1 << 3, message.type)]
  for (const [number, name] of Object.entries(textFields)) {
    const text = message[name]
    if (text === undefined) continue
    const bytes: Buffer<ArrayBuffer> = Buffer.from(text, 'utf8')
    body.push(Buffer.of((Number(number) << 3) | wireBytes), varint(bytes.length), bytes)
  }
  if (message.port !== undefined) body.push(Buffer.of(5 << 3), varint(message.port))
  const bytes = Buffer.concat(body)
  return Buffer.concat([varint(bytes.length), bytes])
}

/** Reads the body of a message; unknown fields are skipped. Throws a `FrameError` when it is none. */
export function decodeMessage(bytes: Uint8Array): LegacyMessage {
  const reader = new Reader(bytes)
  const message: { -readonly [K in keyof LegacyMessage]: LegacyMessage[K] } = { type: messageTypes.connect }
  while (!reader.isAtEnd) {
    const key = reader.varint()
    const number = Math.floor(key / 8)
    const wire = key % 8
    const name = textFields[number as keyof typeof textFields]
    if (number === 1 && wire === wireVarint) message.type = reader.varint()
    else if (number === 5 && wire === wireVarint) message.port = reader.varint()
    else if (name !== undefined && wire === wireBytes) message[name] = reader.bytes().toString('utf8')
    else reader.skip(wire)
  }
  return message
}

/** Writes a message; whoever waits for room waits for the stream's `drain` alone. */
export function writeMessage(stream: ByteStream, message: LegacyMessage): void {
  stream.on('error', ignoreError)
  stream.write(encodeMessage(message))
}

/** Reads one message and leaves the bytes after it in the stream; undefined when the far end ended before it. */
export async function readMessage(stream: ByteStream, signal: AbortSignal): Promise<LegacyMessage | undefined> {
  const length = await readLength(stream, signal)
  if (length === undefined) return undefined
  if (length > limitBytes) throw new FrameError(`Cannot read a message of ${length} bytes: the limit is ${limitBytes}`)
  if (length === 0) return { type: messageTypes.connect }
  const body = await readBytes(stream, length, signal)
  if (body === undefined) throw new FrameError('Cannot read a message: the stream ended inside it')
  return decodeMessage(body)
}

/** Three bytes of seven bits are more than the limit. */
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

  skip(wire: number): void {
    if (wire === wireVarint) this.varint()
    else if (wire === wireBytes) this.bytes()
    else if (wire === wireFixed64) this.#take(8)
    else if (wire === wireFixed32) this.#take(4)
    else throw new FrameError(`Cannot read a message: wire type ${wire} is unknown`)
  }

  #take(count: number): Buffer {
    const end = this.#at + count
    if (end > this.#bytes.length) throw new FrameError('Cannot read a message: it is cut off')
    const taken = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return taken
  }
}
