import { BufferPool } from '../../net/index.ts'

/*
 *   0        4      5          8
 *   | flow   | type | length   | payload ...
 *   | u32    | u8   | u24      |
 */

/** Bytes before each payload. */
export const headBytes = 8

/** Longest payload of a DATA frame, and of any other. */
export const maxPayloadBytes = 64 * 1024

/** What a frame says; types that a peer does not know are skipped. */
export const frameType = {
  hello: 1,
  open: 2,
  ok: 3,
  error: 4,
  data: 5,
  fin: 6,
  reset: 7,
  datagram: 8,
  ping: 9,
  pong: 10,
  /** Absolute limit of the flow's bytes, u64; between ends that resume also how many have arrived, u64. */
  credit: 11,
  /** The flow's bytes from this absolute offset, u64, come on this link; between ends that resume also which RESUME it answers, u64. */
  move: 12,
  /** A link was lost: so many bytes of the flow have arrived, u64, send the rest on this link; how often that was asked, u64. */
  resume: 13,
} as const

/** A peer broke the framing or its promises; its link ends. */
export class LinkProtocolError extends Error {
  override readonly name = 'LinkProtocolError'
  readonly code = 'EDGEMESH_LINK_PROTOCOL'
}

/** Told what a link's bytes say. */
export interface FrameSink {
  /** A whole frame of any type but DATA; the payload is the receiver's own. */
  onFrame(type: number, flow: number, payload: Buffer): void
  /** Some or all of the payload of a DATA frame, as it arrives; the bytes are gone when it returns. */
  onData(flow: number, bytes: Buffer): void
}

/** Cuts a byte stream into frames, of bytes that are only lent to it; holds at most one payload, and never that of a DATA frame. */
export class FrameReader {
  readonly #sink: FrameSink
  readonly #head = Buffer.allocUnsafe(headBytes)
  #headFill = 0
  #type = 0
  #flow = 0
  #remaining = 0
  #parts: Buffer[] = []
  #isStopped = false

  constructor(sink: FrameSink) {
    this.#sink = sink
  }

  /** Nothing more is told; also when called in the middle of `feed`. */
  stop(): void {
    this.#isStopped = true
    this.#parts = []
  }

  /** Throws a `LinkProtocolError` for a payload that is too long. */
  feed(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length && !this.#isStopped) {
      at = this.#headFill < headBytes ? this.#readHead(chunk, at) : this.#readPayload(chunk, at)
    }
  }

  #readHead(chunk: Buffer, at: number): number {
    if (this.#headFill === 0 && chunk.length - at >= headBytes) {
      this.#begin(chunk, at)
      return at + headBytes
    }
    const taken = chunk.copy(this.#head, this.#headFill, at, at + headBytes - this.#headFill)
    this.#headFill += taken
    if (this.#headFill === headBytes) this.#begin(this.#head, 0)
    return at + taken
  }

  #begin(head: Buffer, at: number): void {
    this.#flow = head.readUInt32BE(at)
    const word = head.readUInt32BE(at + 4)
    this.#type = word >>> 24
    this.#remaining = word & 0xffffff
    if (this.#remaining > maxPayloadBytes) {
      throw new LinkProtocolError(`a frame of ${this.#remaining} bytes is too long`)
    }
    this.#headFill = headBytes
    if (this.#remaining === 0) this.#finish(Buffer.alloc(0))
  }

  #readPayload(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#remaining)
    const piece = at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end)
    this.#remaining -= piece.length
    if (this.#type === frameType.data) {
      if (this.#remaining === 0) this.#headFill = 0
      this.#sink.onData(this.#flow, piece)
      return end
    }
    if (this.#remaining > 0) this.#parts.push(Buffer.from(piece))
    else this.#finish(Buffer.concat([...this.#parts.splice(0), piece]))
    return end
  }

  #finish(payload: Buffer): void {
    this.#headFill = 0
    if (this.#type !== frameType.data) this.#sink.onFrame(this.#type, this.#flow, payload)
  }
}

/** Two quanta of payload with their heads, and some control frames. */
const batchBytes = 136 * 1024

/** A copy of so little costs less than to keep the buffer. */
const compactBytes = batchBytes / 4

/** Buffers of batches: who has written what `FrameBatch.take` gave may give it back. */
export const batchBuffers: BufferPool = new BufferPool(batchBytes, 4)

/** Frames on their way out, copied into few large buffers: one write, however many frames there are. */
export class FrameBatch {
  #parts: Buffer[] = []
  #buffer: Buffer | undefined
  #end = 0
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  add(type: number, flow: number, payload: Uint8Array | undefined): void {
    const length = payload?.length ?? 0
    const buffer = this.#room(headBytes)
    buffer.writeUInt32BE(flow, this.#end)
    buffer.writeUInt32BE(((type << 24) | length) >>> 0, this.#end + 4)
    this.#end += headBytes
    this.#bytes += headBytes + length
    if (payload !== undefined && length > 0) this.#copy(payload)
  }

  /** The buffers in order; the batch is empty afterwards. */
  take(): Buffer[] {
    this.#cut()
    const parts = this.#parts
    this.#parts = []
    this.#bytes = 0
    return parts
  }

  /** The same in little more room than the bytes need, for who cannot write them yet. */
  takeCompact(): Buffer[] {
    return this.take().map((part) => {
      if (part.length > compactBytes) return part
      const copy = Buffer.from(part)
      batchBuffers.give(part)
      return copy
    })
  }

  #copy(payload: Uint8Array): void {
    for (let at = 0; at < payload.length; ) {
      const buffer = this.#room(1)
      const size = Math.min(payload.length - at, buffer.length - this.#end)
      buffer.set(size === payload.length ? payload : payload.subarray(at, at + size), this.#end)
      this.#end += size
      at += size
    }
  }

  #room(bytes: number): Buffer {
    if (this.#buffer !== undefined && this.#buffer.length - this.#end >= bytes) return this.#buffer
    this.#cut()
    this.#buffer = batchBuffers.take()
    return this.#buffer
  }

  #cut(): void {
    if (this.#buffer !== undefined) this.#parts.push(this.#buffer.subarray(0, this.#end))
    this.#buffer = undefined
    this.#end = 0
  }
}

/** One or two absolute offsets or counts as a payload. */
export function encodeOffset(offset: number, second?: number): Buffer {
  const payload = Buffer.allocUnsafe(second === undefined ? 8 : 16)
  payload.writeBigUInt64BE(BigInt(offset))
  if (second !== undefined) payload.writeBigUInt64BE(BigInt(second), 8)
  return payload
}

/** What `encodeOffset` has made; throws a `LinkProtocolError` for anything else. */
export function decodeOffsets(payload: Buffer): readonly [number, number | undefined] {
  if (payload.length !== 8 && payload.length !== 16) throw new LinkProtocolError('an offset is damaged')
  return [offsetAt(payload, 0), payload.length === 16 ? offsetAt(payload, 8) : undefined]
}

function offsetAt(payload: Buffer, at: number): number {
  const offset = Number(payload.readBigUInt64BE(at))
  if (!Number.isSafeInteger(offset)) throw new LinkProtocolError('an offset is damaged')
  return offset
}

/** A message in words; throws a `LinkProtocolError` for anything else. */
export function decodeJson(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'))
  } catch (error) {
    throw new LinkProtocolError('a message is not JSON', { cause: error })
  }
}
