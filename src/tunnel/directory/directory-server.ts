import type { ByteStream } from '../../net/index.ts'
import { resetStream } from '../../net/index.ts'
import type { Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { NameRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import { Broadcast } from './broadcast.ts'
import { type AgentMessage, directoryFrameLimitBytes, parseAgentMessage, type ServerMessage } from './messages.ts'
import { type CappedNodes, newsOfCapped, Session, type SessionPeer } from './session.ts'

/** What the server's side of the directory needs. */
export interface DirectoryServerOptions {
  readonly book: RecordBook
  readonly tasks: TaskGroup
  readonly logger: Logger
  /** Changes within this time travel together, and the longer the more agents there are to tell. */
  readonly debounceMs: number
  readonly random?: () => number
}

const helloTimeoutMs = 10_000

/** What an agent that is refused has to read why. */
const refusalMs = 1000

/** Hands out the signed records of the mesh and tells agents who is connected. One session per agent: a new one ends the old. */
export class DirectoryServer implements Disposable {
  readonly #options: DirectoryServerOptions
  readonly #sessions = new Map<string, Session>()
  readonly #broadcast: Broadcast
  #capped: CappedNodes = {}
  readonly #subscription: Disposable

  constructor(options: DirectoryServerOptions) {
    this.#options = options
    const { book, debounceMs, random = Math.random } = options
    this.#broadcast = new Broadcast({ book, sessions: this.#sessions, debounceMs, random })
    // Also what an agent that relays has heard from other servers; who comes later is given it then.
    this.#subscription = book.onAccepted(({ name }) => this.#broadcast.note({ record: name }))
    options.tasks.run('directory broadcast', (signal) => this.#broadcast.run(signal))
  }

  /** Hears of no more records; sessions end with the tasks. */
  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]()
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

  /** Tells all agents for which nodes this relay carries nothing more now, and why. */
  setCapped(capped: ReadonlyMap<string, string>): void {
    this.#capped = Object.fromEntries(capped)
    const news = newsOfCapped(this.#capped)
    for (const session of this.#sessions.values()) session.tell(news)
  }

  /** Names of the agents with a session. */
  get connected(): readonly string[] {
    return [...this.#sessions.keys()]
  }

  async #serve(stream: ByteStream, peer: SessionPeer, stopping: AbortSignal): Promise<void> {
    const hello = await readHello(stream, stopping)
    const { record } = await this.#options.book.open(hello.record)
    if (!(await this.#take(stream, peer, hello.record, stopping))) return
    const session = new Session(stream, peer)
    this.#join(record, session)
    const ended = new AbortController()
    const end = () => ended.abort(new Error('session ended'))
    stopping.addEventListener('abort', end, { once: true })
    const sending = session.run(
      { book: this.#options.book, connected: this.connected, capped: this.#capped, known: hello.known },
      ended.signal,
    )
    try {
      await Promise.race([sending, this.#readAll(session, ended.signal)])
    } finally {
      end()
      stopping.removeEventListener('abort', end)
      sending.catch(() => {})
      this.#leave(record.name, session)
    }
  }

  async #readAll(session: Session, signal: AbortSignal): Promise<void> {
    for (;;) {
      const message = await readMessage(session.stream, signal)
      if (message === undefined) return
      if (message.type !== 'record') continue
      if (!(await this.#take(session.stream, session.peer, message.record, signal))) return
    }
  }

  /** Keeps a record that an agent says of itself; tells the agent and returns false when it is refused. */
  async #take(stream: ByteStream, peer: SessionPeer, encoded: string, signal: AbortSignal): Promise<boolean> {
    const { record } = await this.#options.book.open(encoded)
    const refusal = await this.#refusalOf(record, encoded, peer)
    if (refusal === undefined) return true
    await writeFrame(stream, { type: 'refused', reason: refusal } satisfies ServerMessage, signal)
    stream.end()
    await sleep(refusalMs, signal)
    return false
  }

  async #refusalOf(record: NameRecord, encoded: string, peer: SessionPeer): Promise<string | undefined> {
    if (record.peerId !== peer.peerId) return 'the record is of another identity than the connection'
    const acceptance = await this.#options.book.offer(encoded)
    if (acceptance === 'refused') return this.#options.book.refusalOf(record.name, record.peerId) ?? 'there is no room'
    if (acceptance !== 'conflict') return undefined
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
    this.#broadcast.note({ presence: name })
  }

  #leave(name: string, session: Session): void {
    if (this.#sessions.get(name) !== session) return
    this.#sessions.delete(name)
    this.#options.logger.info({ peer: name, address: session.peer.address }, 'agent disconnected')
    this.#broadcast.note({ presence: name })
  }
}

async function readHello(
  stream: ByteStream,
  stopping: AbortSignal,
): Promise<AgentMessage & { readonly type: 'hello' }> {
  using limit = new TimeLimit(helloTimeoutMs, stopping)
  const hello = await readMessage(stream, limit.signal)
  if (hello?.type !== 'hello') throw new Error('the first message is no hello')
  return hello
}

async function readMessage(stream: ByteStream, signal: AbortSignal): Promise<AgentMessage | undefined> {
  const frame = await readFrame(stream, directoryFrameLimitBytes, signal)
  return frame === undefined ? undefined : parseAgentMessage(frame)
}
