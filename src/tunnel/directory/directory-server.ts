import type { ByteStream } from '../../net/index.ts'
import { resetStream } from '../../net/index.ts'
import type { Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import { type NameRecord, openRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import {
  type AgentMessage,
  directoryFrameLimitBytes,
  inPieces,
  namesPerFrame,
  parseAgentMessage,
  recordsPerFrame,
  type ServerMessage,
} from './messages.ts'

/** The connection that a session runs on. */
export interface SessionPeer {
  readonly peerId: string
  readonly address: string
  /** Ends the connection. */
  abort(reason: Error): void
}

/** What the server's side of the directory needs. */
export interface DirectoryServerOptions {
  readonly book: RecordBook
  readonly tasks: TaskGroup
  readonly logger: Logger
  /** Changes within this time travel together. */
  readonly debounceMs: number
}

const helloTimeoutMs = 10_000

/** Hands out the signed records of the mesh and tells agents who is connected. One session per agent: a new one ends the old. */
export class DirectoryServer {
  readonly #options: DirectoryServerOptions
  readonly #sessions = new Map<string, Session>()

  constructor(options: DirectoryServerOptions) {
    this.#options = options
  }

  /** Takes ownership of a stream that an agent opened. */
  accept(stream: ByteStream, peer: SessionPeer): void {
    this.#options.tasks.run('directory session', async (signal) => {
      try {
        await this.#serve(stream, peer, signal)
      } catch (error) {
        this.#options.logger.debug({ peer: peer.peerId, address: peer.address, error }, 'directory session ended')
      } finally {
        resetStream(stream, new Error('directory session ended'))
      }
    })
  }

  /** Names of the agents with a session. */
  get connected(): readonly string[] {
    return [...this.#sessions.keys()]
  }

  async #serve(stream: ByteStream, peer: SessionPeer, stopping: AbortSignal): Promise<void> {
    const hello = await readMessage(stream, AbortSignal.any([stopping, AbortSignal.timeout(helloTimeoutMs)]))
    if (hello?.type !== 'hello') throw new Error('the first message is no hello')
    const { record } = await openRecord(hello.record)
    if (!(await this.#take(stream, peer, hello.record, stopping))) return
    const session = new Session(stream, peer, new Map(Object.entries(hello.known)))
    this.#join(record, session)
    const ended = new AbortController()
    const signal = AbortSignal.any([stopping, ended.signal])
    const sending = session.run(this.#options, this.connected, signal)
    try {
      await Promise.race([sending, this.#readAll(session, record.name, signal)])
    } finally {
      ended.abort(new Error('session ended'))
      sending.catch(() => {})
      this.#leave(record.name, session)
    }
  }

  async #readAll(session: Session, name: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const message = await readMessage(session.stream, signal)
      if (message === undefined) return
      if (message.type !== 'record') continue
      if (!(await this.#take(session.stream, session.peer, message.record, signal))) return
      this.#tellAll({ record: name })
    }
  }

  /** Keeps a record that an agent says of itself; tells the agent and returns false when it is refused. */
  async #take(stream: ByteStream, peer: SessionPeer, encoded: string, signal: AbortSignal): Promise<boolean> {
    const { record } = await openRecord(encoded)
    const refusal = await this.#refusalOf(record, encoded, peer)
    if (refusal === undefined) return true
    await writeFrame(stream, { type: 'refused', reason: refusal } satisfies ServerMessage, signal)
    stream.end()
    await sleep(1000, signal)
    return false
  }

  async #refusalOf(record: NameRecord, encoded: string, peer: SessionPeer): Promise<string | undefined> {
    if (record.peerId !== peer.peerId) return 'the record is of another identity than the connection'
    if ((await this.#options.book.offer(encoded)) !== 'conflict') return undefined
    return (
      `the name ${record.name} belongs to another identity here; if this node was installed anew, ` +
      `run "edgemesh unpin ${record.name}" on the server`
    )
  }

  #join({ name }: NameRecord, session: Session): void {
    // An agent that lost its connection without a word comes back on a new one; the old would catch relayed traffic.
    this.#sessions.get(name)?.replace()
    this.#sessions.set(name, session)
    this.#options.logger.info({ peer: name, address: session.peer.address }, 'agent connected')
    this.#tellAll({ record: name, presence: name })
  }

  #leave(name: string, session: Session): void {
    if (this.#sessions.get(name) !== session) return
    this.#sessions.delete(name)
    this.#options.logger.info({ peer: name, address: session.peer.address }, 'agent disconnected')
    this.#tellAll({ presence: name })
  }

  #tellAll(change: { readonly record?: string; readonly presence?: string }): void {
    for (const session of this.#sessions.values()) session.note(change, this.#sessions)
  }
}

/** One connected agent, and what it is yet to be told. */
class Session {
  readonly stream: ByteStream
  readonly peer: SessionPeer
  readonly #known: Map<string, number>
  readonly #records = new Set<string>()
  readonly #presence = new Map<string, boolean>()
  #wake: () => void = () => {}

  constructor(stream: ByteStream, peer: SessionPeer, known: Map<string, number>) {
    this.stream = stream
    this.peer = peer
    this.#known = known
  }

  note(
    { record, presence }: { readonly record?: string; readonly presence?: string },
    sessions: ReadonlyMap<string, Session>,
  ): void {
    if (record !== undefined) this.#records.add(record)
    if (presence !== undefined) this.#presence.set(presence, sessions.has(presence))
    this.#wake()
  }

  replace(): void {
    this.peer.abort(new Error('replaced by a newer connection of the same node'))
  }

  /** Sends what the agent does not know yet, then changes as they come; waits while the agent is slow. */
  async run(options: DirectoryServerOptions, connected: readonly string[], signal: AbortSignal): Promise<never> {
    signal.addEventListener('abort', () => this.#wake(), { once: true })
    const [first = [], ...more] = inPieces(connected, namesPerFrame)
    await this.#send({ type: 'presence', reset: true, up: first, down: [] }, signal)
    for (const up of more) await this.#send({ type: 'presence', reset: false, up, down: [] }, signal)
    for (const { record } of options.book.records) this.#records.add(record.name)
    for (;;) {
      await this.#sendPresence(signal)
      await this.#sendRecords(options.book, signal)
      if (!this.#hasNews()) await this.#untilWoken()
      await sleep(options.debounceMs, signal)
    }
  }

  #hasNews(): boolean {
    return this.#records.size > 0 || this.#presence.size > 0
  }

  async #sendPresence(signal: AbortSignal): Promise<void> {
    const changes = [...this.#presence]
    this.#presence.clear()
    for (const piece of inPieces(changes, namesPerFrame)) {
      const up = piece.filter(([, isUp]) => isUp).map(([name]) => name)
      const down = piece.filter(([, isUp]) => !isUp).map(([name]) => name)
      await this.#send({ type: 'presence', reset: false, up, down }, signal)
    }
  }

  async #sendRecords(book: RecordBook, signal: AbortSignal): Promise<void> {
    const names = [...this.#records]
    this.#records.clear()
    const fresh = names.flatMap((name) => {
      const signed = book.recordOf(name)
      if (signed === undefined || signed.record.sequence <= (this.#known.get(name) ?? 0)) return []
      this.#known.set(name, signed.record.sequence)
      return [signed.encoded]
    })
    for (const records of inPieces(fresh, recordsPerFrame)) await this.#send({ type: 'records', records }, signal)
  }

  async #send(message: ServerMessage, signal: AbortSignal): Promise<void> {
    await writeFrame(this.stream, message, signal)
  }

  #untilWoken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}

async function readMessage(stream: ByteStream, signal: AbortSignal): Promise<AgentMessage | undefined> {
  const frame = await readFrame(stream, directoryFrameLimitBytes, signal)
  return frame === undefined ? undefined : parseAgentMessage(frame)
}
