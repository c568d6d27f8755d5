import { ApiProtocolError } from './errors.ts'

/** What a list says besides its items. */
export interface ListHead {
  /** Empty when the server gives none. */
  readonly resourceVersion: string
  /** Names the next page; empty on the last one. */
  readonly continueToken: string
}

/** How large one item, and all that is not an item, may be. */
export interface ListLimits {
  readonly itemBytes: number
  readonly headBytes: number
}

const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d

/** Whom the next bytes belong to. */
type Part = 'head' | 'separators' | 'item'

/**
 * Reads a Kubernetes list as it arrives and gives its items one by one, so that neither the text nor the parsed form
 * of a whole list is ever in memory.
 *
 *     {"kind":"ServiceList","metadata":{...},"items":[ {item}, {item} ],...}
 *     └─ head, depth 1                               │ └ item, depth 3 └─ head
 *                                                    └ separators, depth 2
 */
export class ListDecoder {
  readonly #limits: ListLimits
  #part: Part = 'head'
  readonly #head: Buffer[] = []
  #headBytes = 0
  #item: Buffer[] = []
  #itemBytes = 0
  #depth = 0
  #isInString = false
  #isEscaped = false
  /** The last text of depth 1, which is the key of what follows its colon. */
  #text = ''

  constructor(limits: ListLimits) {
    this.#limits = limits
  }

  /** The items that this chunk completes; undefined in place of one that is too large or no JSON. */
  *push(chunk: Buffer): Generator<unknown> {
    let start = 0
    for (let at = 0; at < chunk.length; at++) {
      const next = this.#partAfter(chunk[at] ?? 0)
      if (next === this.#part) continue
      // The bracket or brace that ends an item belongs to it, as does the one that opens the list to the head.
      const end = next === 'separators' ? at + 1 : at
      this.#keep(chunk.subarray(start, end))
      if (this.#part === 'item') yield this.#takeItem()
      this.#part = next
      start = end
    }
    this.#keep(chunk.subarray(start))
  }

  /** What the list says besides its items. Throws an `ApiProtocolError` when the text is no list or not complete. */
  finish(): ListHead {
    const head = this.#depth === 0 ? parseObject(Buffer.concat(this.#head).toString('utf8')) : undefined
    if (head === undefined) throw new ApiProtocolError('Cannot read a list: the answer is not complete, or no JSON')
    const { kind, items, metadata } = head
    const isList = Array.isArray(items) || (typeof kind === 'string' && kind.endsWith('List'))
    if (!isList) throw new ApiProtocolError(`Cannot read a list: the answer is of kind ${JSON.stringify(kind)}`)
    const { resourceVersion, continue: continueToken } = asRecord(metadata)
    return { resourceVersion: asText(resourceVersion), continueToken: asText(continueToken) }
  }

  #partAfter(byte: number): Part {
    if (this.#isInString) {
      this.#stepInString(byte)
      return this.#part
    }
    if (byte === openBrace || byte === openBracket) return this.#open(byte)
    if (byte === closeBrace || byte === closeBracket) return this.#close()
    if (byte === quote) {
      this.#isInString = true
      if (this.#depth === 1) this.#text = ''
    }
    return this.#part
  }

  #stepInString(byte: number): void {
    if (this.#isEscaped) this.#isEscaped = false
    else if (byte === backslash) this.#isEscaped = true
    else if (byte === quote) this.#isInString = false
    // Longer than `items` is enough to tell that it is another key.
    else if (this.#depth === 1 && this.#text.length < 8) this.#text += String.fromCharCode(byte)
  }

  #open(byte: number): Part {
    this.#depth += 1
    if (this.#depth === 2 && byte === openBracket && this.#text === 'items') return 'separators'
    return this.#part === 'separators' ? 'item' : this.#part
  }

  #close(): Part {
    this.#depth -= 1
    if (this.#depth === 1 && this.#part === 'separators') return 'head'
    return this.#depth === 2 && this.#part === 'item' ? 'separators' : this.#part
  }

  #keep(bytes: Buffer): void {
    if (this.#part === 'head') {
      this.#headBytes += bytes.length
      if (this.#headBytes > this.#limits.headBytes) throw new ApiProtocolError('Cannot read a list: it is too large')
      this.#head.push(bytes)
    }
    if (this.#part === 'item') {
      this.#itemBytes += bytes.length
      if (this.#itemBytes <= this.#limits.itemBytes) this.#item.push(bytes)
    }
  }

  #takeItem(): unknown {
    const isWhole = this.#itemBytes <= this.#limits.itemBytes
    const text = isWhole ? Buffer.concat(this.#item).toString('utf8') : ''
    this.#item = []
    this.#itemBytes = 0
    return parseJson(text)
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  const value = parseJson(text)
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? asRecord(value) : undefined
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
