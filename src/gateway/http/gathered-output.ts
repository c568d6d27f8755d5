import type { ByteStream } from '../../net/index.ts'

/** A chunk up to this size leaves as text, together with what is before and behind it. */
const largestInText = 4096

const waiting: GatheredOutput[] = []

/**
 * What is written to a connection, held back until everything that arrived at this moment was read: a head and its body
 * leave in one piece, and the writes of many connections follow each other. A write that finds its reader asleep costs
 * several times as much as one that finds it awake.
 */
export class GatheredOutput {
  readonly #stream: ByteStream
  #text = ''

  constructor(stream: ByteStream) {
    this.#stream = stream
  }

  /** Writes latin1; false asks to wait for `drain` of the stream. */
  text(text: string): boolean {
    if (text === '') return true
    if (this.#text === '' && waiting.push(this) === 1) setImmediate(flushAll)
    this.#text += text
    if (this.#text.length < this.#stream.writableHighWaterMark) return !this.#stream.writableNeedDrain
    // Only the stream knows whether `drain` will follow: what the kernel takes at once needs none, however much it is.
    return this.#writeHeld()
  }

  /** Writes a chunk between two texts; the chunk may be overwritten afterwards. False as above. */
  bytes(before: string, chunk: Buffer, after: string): boolean {
    if (chunk.length <= largestInText) return this.text(before + chunk.toString('latin1') + after)
    const first = this.#text + before
    this.#text = ''
    const whole = Buffer.allocUnsafe(first.length + chunk.length + after.length)
    whole.write(first, 'latin1')
    chunk.copy(whole, first.length)
    whole.write(after, first.length + chunk.length, 'latin1')
    return this.#isOpen() ? this.#stream.write(whole) : true
  }

  /** Sends what is held back now, as before the end of the stream. */
  flush(): void {
    if (this.#text !== '') this.#writeHeld()
  }

  /** Sends what is held back and ends our direction. */
  end(): void {
    this.flush()
    this.#stream.end()
  }

  #writeHeld(): boolean {
    const text = this.#text
    this.#text = ''
    return this.#isOpen() ? this.#stream.write(text, 'latin1') : true
  }

  #isOpen(): boolean {
    return !(this.#stream.destroyed || this.#stream.writableEnded)
  }
}

function flushAll(): void {
  for (const output of waiting.splice(0)) output.flush()
}
