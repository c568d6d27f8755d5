import { ApiProtocolError } from './errors.ts'

const newline = 0x0a

/** Cuts a stream of bytes into lines, however the bytes are chunked; empty lines are left out. */
export class LineDecoder {
  readonly #limitBytes: number
  #pending: Buffer[] = []
  #pendingBytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** The lines that this chunk completes. Throws an `ApiProtocolError` when a line is longer than the limit. */
  *push(chunk: Buffer): Generator<string> {
    let start = 0
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      this.#keep(chunk.subarray(start, end))
      const line = this.#take()
      if (line.trim() !== '') yield line
      start = end + 1
    }
    this.#keep(chunk.subarray(start))
  }

  #keep(part: Buffer): void {
    this.#pendingBytes += part.length
    if (this.#pendingBytes > this.#limitBytes) {
      throw new ApiProtocolError(`Cannot read a line of more than ${this.#limitBytes} bytes`)
    }
    if (part.length > 0) this.#pending.push(part)
  }

  #take(): string {
    const line = this.#pending.length === 1 ? this.#pending[0] : Buffer.concat(this.#pending)
    this.#pending = []
    this.#pendingBytes = 0
    return (line ?? Buffer.alloc(0)).toString('utf8')
  }
}
