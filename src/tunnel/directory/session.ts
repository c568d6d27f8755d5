import { once } from 'node:events'
import type { ByteStream } from '../../net/index.ts'
import { encodeFrame, writeFrame } from '../frames.ts'
import type { RecordBook } from '../records/record-book.ts'
import { type KnownRecords, recordsBeyond } from './known-records.ts'
import { inPieces, namesPerFrame, recordsPerFrame, type ServerMessage } from './messages.ts'

/** The connection that a session runs on. */
export interface SessionPeer {
  readonly peerId: string
  readonly address: string
  /** Ends the connection. */
  abort(reason: Error): void
}

/** What an agent is told when it comes. */
export interface SessionStart {
  readonly book: RecordBook
  /** Names of the agents that are there. */
  readonly connected: readonly string[]
  /** Who is not relayed now; default: everybody is. */
  readonly capped?: CappedNodes
  /** What the agent has already. */
  readonly known: KnownRecords
}

/** Names that nothing is relayed for now, with the reasons. */
export type CappedNodes = Readonly<Record<string, string>>

/** Changes that all agents are to hear of, and how they travel. */
export interface News {
  readonly presence: ReadonlyMap<string, boolean>
  readonly records: ReadonlySet<string>
  /** Who is not relayed now; absent when that has not changed. */
  readonly capped?: CappedNodes
  /** The same as frames, made once for all sessions. */
  readonly frames: readonly Buffer[]
}

/**
 * One connected agent. It is given all that it does not have, then the news that everybody gets; only what comes while
 * it is slow is kept for it, as the state that it ends in, so that each name is told once when it can listen again.
 */
export class Session {
  readonly stream: ByteStream
  readonly peer: SessionPeer
  readonly #records = new Set<string>()
  readonly #presence = new Map<string, boolean>()
  #capped: CappedNodes | undefined
  #isSlow = true
  #wake: () => void = () => {}

  constructor(stream: ByteStream, peer: SessionPeer) {
    this.stream = stream
    this.peer = peer
  }

  /** Sends news now, or keeps what they are about until the agent can take more. */
  tell({ presence, records, capped, frames }: News): void {
    if (this.#isSlow) {
      for (const name of records) this.#records.add(name)
      for (const [name, isUp] of presence) this.#presence.set(name, isUp)
      this.#capped = capped ?? this.#capped
      return
    }
    for (const frame of frames) this.#isSlow = !this.stream.write(frame) || this.#isSlow
    if (this.#isSlow) this.#wake()
  }

  /** Ends the connection, because the agent has a newer one. */
  replace(): void {
    this.peer.abort(new Error('replaced by a newer connection of the same node'))
  }

  /** Sends what the agent does not have, and what was kept for it each time it was slow; ends with the signal alone. */
  async run({ book, connected, capped = {}, known }: SessionStart, signal: AbortSignal): Promise<never> {
    signal.addEventListener('abort', () => this.#wake(), { once: true })
    const [first = [], ...more] = inPieces(connected, namesPerFrame)
    await this.#send({ type: 'presence', reset: true, up: first, down: [] }, signal)
    for (const up of more) await this.#send({ type: 'presence', reset: false, up, down: [] }, signal)
    if (Object.keys(capped).length > 0) await this.#send(cappedMessageOf(capped), signal)
    const unknown = recordsBeyond(book, known).map(({ encoded }) => encoded)
    await this.#sendAll(recordMessagesOf(unknown), signal)
    for (;;) {
      while (this.#hasKept()) await this.#sendKept(book, signal)
      this.#isSlow = false
      await this.#untilWoken()
      signal.throwIfAborted()
      if (this.stream.writableNeedDrain) await once(this.stream, 'drain', { signal })
    }
  }

  #hasKept(): boolean {
    return this.#presence.size > 0 || this.#records.size > 0 || this.#capped !== undefined
  }

  async #sendKept(book: RecordBook, signal: AbortSignal): Promise<void> {
    const messages = messagesOf(book, this.#presence, this.#records)
    if (this.#capped !== undefined) messages.push(cappedMessageOf(this.#capped))
    this.#presence.clear()
    this.#records.clear()
    this.#capped = undefined
    await this.#sendAll(messages, signal)
  }

  async #sendAll(messages: readonly ServerMessage[], signal: AbortSignal): Promise<void> {
    for (const message of messages) await this.#send(message, signal)
  }

  async #send(message: ServerMessage, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    await writeFrame(this.stream, message, signal)
  }

  #untilWoken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}

/** Tells all agents for which nodes nothing is relayed now. */
export function newsOfCapped(capped: CappedNodes): News {
  return { presence: new Map(), records: new Set(), capped, frames: [encodeFrame(cappedMessageOf(capped))] }
}

function cappedMessageOf(nodes: CappedNodes): ServerMessage {
  return { type: 'capped', nodes }
}

/** The messages that tell who came and went, and the records of these names. */
export function messagesOf(
  book: RecordBook,
  presence: ReadonlyMap<string, boolean>,
  records: ReadonlySet<string>,
): ServerMessage[] {
  const told = inPieces([...presence], namesPerFrame).map((piece): ServerMessage => {
    const up = piece.filter(([, isUp]) => isUp).map(([name]) => name)
    const down = piece.filter(([, isUp]) => !isUp).map(([name]) => name)
    return { type: 'presence', reset: false, up, down }
  })
  const encoded = [...records].flatMap((name) => book.recordOf(name)?.encoded ?? [])
  return [...told, ...recordMessagesOf(encoded)]
}

function recordMessagesOf(encoded: readonly string[]): ServerMessage[] {
  return inPieces(encoded, recordsPerFrame).map((records) => ({ type: 'records', records }))
}
