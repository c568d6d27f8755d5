import { type BodyFraming, MessageError, parseFields, splitHead } from './head.ts'
import type { HeaderFields } from './header-fields.ts'

/** Takes the parts of a body as they arrive. */
export interface BodySink {
  onData(chunk: Buffer): void
  onEnd(trailers: HeaderFields | undefined): void
}

/** Finds the end of one body in a stream of bytes. */
export interface BodyDecoder {
  /** Takes bytes from `offset` on; the offset after the last one that belongs to the body. Throws `MessageError`. */
  take(chunk: Buffer, offset: number, sink: BodySink): number
  readonly isComplete: boolean
}

/** A decoder for a body that is framed this way; one of no bytes is complete from the start without a word. */
export function createBodyDecoder(framing: BodyFraming): BodyDecoder {
  switch (framing.kind) {
    case 'none':
      return { isComplete: true, take: (_chunk, offset) => offset }
    case 'length':
      return new LengthDecoder(framing.length)
    case 'chunked':
      return new ChunkedDecoder()
    case 'until-close':
      return { isComplete: false, take: takeAll }
    default:
      return framing satisfies never
  }
}

function takeAll(chunk: Buffer, offset: number, sink: BodySink): number {
  if (offset < chunk.length) sink.onData(offset === 0 ? chunk : chunk.subarray(offset))
  return chunk.length
}

class LengthDecoder implements BodyDecoder {
  #left: number

  constructor(length: number) {
    this.#left = length
  }

  get isComplete(): boolean {
    return this.#left === 0
  }

  take(chunk: Buffer, offset: number, sink: BodySink): number {
    const end = Math.min(chunk.length, offset + this.#left)
    this.#left -= end - offset
    if (end > offset) sink.onData(offset === 0 && end === chunk.length ? chunk : chunk.subarray(offset, end))
    if (this.#left === 0) sink.onEnd(undefined)
    return end
  }
}

/** Lines of a chunked body are short; longer ones are somebody's attempt to fill memory. */
const longestLine = 256
const longestTrailers = 16_384

/**
 *     size ──line──► data ──all──► end of data ──CRLF──► size     a size of 0 ──► trailers ──empty line──► done
 */
class ChunkedDecoder implements BodyDecoder {
  #state: 'size' | 'data' | 'data-end' | 'trailers' | 'done' = 'size'
  #left = 0
  #line = ''
  readonly #trailerLines: string[] = []
  #trailerBytes = 0

  get isComplete(): boolean {
    return this.#state === 'done'
  }

  take(chunk: Buffer, offset: number, sink: BodySink): number {
    let at = offset
    while (at < chunk.length && this.#state !== 'done') {
      at = this.#state === 'data' ? this.#takeData(chunk, at, sink) : this.#takeLine(chunk, at, sink)
    }
    return at
  }

  #takeData(chunk: Buffer, at: number, sink: BodySink): number {
    const end = Math.min(chunk.length, at + this.#left)
    this.#left -= end - at
    if (this.#left === 0) this.#state = 'data-end'
    sink.onData(chunk.subarray(at, end))
    return end
  }

  #takeLine(chunk: Buffer, at: number, sink: BodySink): number {
    const lineFeed = chunk.indexOf(10, at)
    const end = lineFeed === -1 ? chunk.length : lineFeed + 1
    if (this.#line.length + end - at > this.#longest())
      throw new MessageError(400, 'a line of the chunked body is too long')
    this.#line += chunk.toString('latin1', at, end)
    if (lineFeed === -1) return end
    if (!this.#line.endsWith('\r\n')) throw new MessageError(400, 'a line of the chunked body does not end in CR LF')
    const line = this.#line.slice(0, -2)
    this.#line = ''
    this.#onLine(line, sink)
    return end
  }

  #longest(): number {
    if (this.#state === 'data-end') return 2
    return this.#state === 'trailers' ? longestTrailers : longestLine
  }

  #onLine(line: string, sink: BodySink): void {
    switch (this.#state) {
      case 'size':
        this.#left = chunkSizeOf(line)
        this.#state = this.#left === 0 ? 'trailers' : 'data'
        return
      case 'data-end':
        if (line !== '') throw new MessageError(400, 'a chunk is longer than it says')
        this.#state = 'size'
        return
      default:
        this.#onTrailerLine(line, sink)
    }
  }

  #onTrailerLine(line: string, sink: BodySink): void {
    this.#trailerBytes += line.length + 2
    if (this.#trailerBytes > longestTrailers) throw new MessageError(431, 'the trailers are too long')
    if (line !== '') {
      this.#trailerLines.push(line)
      return
    }
    this.#state = 'done'
    sink.onEnd(this.#trailerLines.length === 0 ? undefined : parseFields(splitHead(this.#trailerLines.join('\r\n')), 0))
  }
}

/** The size of a chunk; extensions, which nobody uses, are checked and dropped. */
function chunkSizeOf(line: string): number {
  const match = /^([0-9a-fA-F]{1,13})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?$/.exec(line)
  if (match === null) throw new MessageError(400, 'a chunk has no valid size')
  return Number.parseInt(match[1] ?? '', 16)
}
