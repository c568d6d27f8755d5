import type { Query } from './query.ts'

const headerBytes = 12
const optBytes = 11
const maxEntries = 4096
const maxVariants = 8

/** Answers live this long at most, so that what they were made from may change without a word. */
const lifetimeMs = 1000

interface Entry {
  readonly variants: Buffer[]
  /** How many differently ordered answers there should be. */
  readonly wanted: number
  readonly firstTurn: number
  next: number
}

/** How an answer came to its order. */
export interface AnswerOrder {
  /** How many orders are as good as this one. */
  readonly count: number
  /** What `turnOf` said before. */
  readonly turn: number
}

const onlyOrder: AnswerOrder = { count: 1, turn: 0 }

/**
 * Answers as they were sent, found by the bytes of the question, all but its id. A repeated question costs one look
 * into a map and one copy, and is not even parsed.
 */
export class HotAnswers {
  readonly #entries = new Map<string, Entry>()
  readonly #now: () => number
  #until: number

  /** `now` is a clock in milliseconds that never goes back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#until = now() + lifetimeMs
  }

  /** The answer to send, with the question's id; undefined when it must be made, and then added. */
  get(message: Buffer): Buffer | undefined {
    if (message.length <= headerBytes) return undefined
    if (this.#now() >= this.#until) this.clear()
    const entry = this.#entries.get(message.toString('latin1', 2))
    if (entry === undefined || entry.variants.length < entry.wanted) return undefined
    entry.next = (entry.next + 1) % entry.variants.length
    const variant = entry.variants[entry.next]
    if (variant === undefined) return undefined
    // A copy: the last answer may still wait in the socket's queue.
    const answer = Buffer.allocUnsafe(variant.length)
    variant.copy(answer)
    answer.writeUInt16BE(message.readUInt16BE(0), 0)
    return answer
  }

  /** By how many places to rotate the records of the next answer, so that each kept one has an order of its own. */
  turnOf(message: Buffer, random: () => number): number {
    const entry = this.#entries.get(message.toString('latin1', 2))
    return entry === undefined ? Math.floor(random() * 0x10000) : entry.firstTurn + entry.variants.length
  }

  /** Keeps an answer. When its order carries no meaning, a few with other orders are kept too, and take turns. */
  add(message: Buffer, query: Query, answer: Buffer, order = onlyOrder): void {
    // What else a message carries, such as a cookie, differs from one client to the next.
    if (message.length !== headerBytes + query.question.length + (query.edns === undefined ? 0 : optBytes)) return
    const key = message.toString('latin1', 2)
    const known = this.#entries.get(key)
    if (known !== undefined) {
      if (known.variants.length < known.wanted) known.variants.push(Buffer.from(answer))
      return
    }
    if (this.#entries.size >= maxEntries) return
    const wanted = Math.min(order.count, maxVariants)
    this.#entries.set(key, { variants: [Buffer.from(answer)], wanted, firstTurn: order.turn, next: 0 })
  }

  /** Forgets all answers: what they were made from has changed. */
  clear(): void {
    this.#entries.clear()
    this.#until = this.#now() + lifetimeMs
  }
}
