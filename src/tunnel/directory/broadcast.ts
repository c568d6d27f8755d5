import { sleep } from '../../runtime/index.ts'
import { encodeFrame } from '../frames.ts'
import type { RecordBook } from '../records/record-book.ts'
import { messagesOf, type Session } from './session.ts'

/** What telling everybody needs. */
export interface BroadcastOptions {
  readonly book: RecordBook
  /** By the name of the agent. */
  readonly sessions: ReadonlyMap<string, Session>
  readonly debounceMs: number
  readonly random: () => number
}

/** Added to the debounce time for each agent: a thousand agents that come together are told of in some ten rounds. */
const perSessionMs = 1.5
const longestMs = 2_000
/** Servers that were started together do not speak in step. */
const jitter = 0.25

/**
 * Tells all agents who came, who went and whose record is new: changes are collected for a while, each name counts once,
 * and the frames are made once for all. Without this a thousand joining agents cost a million messages each second.
 */
export class Broadcast {
  readonly #options: BroadcastOptions
  readonly #presence = new Set<string>()
  readonly #records = new Set<string>()
  #wake: () => void = () => {}

  constructor(options: BroadcastOptions) {
    this.#options = options
  }

  /** Notes that an agent came or went, or that there is a new record of it. */
  note({ record, presence }: { readonly record?: string; readonly presence?: string }): void {
    if (record !== undefined) this.#records.add(record)
    if (presence !== undefined) this.#presence.add(presence)
    this.#wake()
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#wake(), { once: true })
    for (;;) {
      if (this.#presence.size === 0 && this.#records.size === 0) await this.#untilWoken()
      await sleep(this.roundMs(), signal)
      this.#tellAll()
    }
  }

  /** How long changes are collected now. */
  roundMs(): number {
    const { debounceMs, sessions, random } = this.#options
    const full = Math.min(longestMs, debounceMs + sessions.size * perSessionMs)
    return full * (1 - jitter * random())
  }

  #tellAll(): void {
    const { book, sessions } = this.#options
    const presence = new Map([...this.#presence].map((name) => [name, sessions.has(name)]))
    const records = new Set(this.#records)
    this.#presence.clear()
    this.#records.clear()
    const frames = messagesOf(book, presence, records).map(encodeFrame)
    for (const session of sessions.values()) session.tell({ presence, records, frames })
  }

  #untilWoken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}
