import * as z from 'zod'
import { type ByteStream, ignoreError, type SocketAddress, type TcpSocket } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { aborted, sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { Host } from '../host/host.ts'
import { isUnsupported, type PeerConnection } from '../host/peer-connection.ts'
import { LastErrors } from '../last-errors.ts'
import type { LinkKind } from '../links/hello.ts'
import { wantedLinks } from '../links/link-connector.ts'
import type { LinkTable } from '../links/link-table.ts'
import { type Agreement, offerMeeting, takeMeeting } from './agreement.ts'
import { Attempts } from './attempts.ts'
import type { Appearance } from './mapping.ts'
import { MeetingPoint } from './meeting.ts'
import { openingSchema, punchFrameLimitBytes, punchProtocol } from './punch-messages.ts'
import { type MeetingPort, openSidePort } from './side-port.ts'

/** What punching needs. */
export interface PuncherOptions {
  readonly host: Pick<Host, 'peerId' | 'handle' | 'handleRaw' | 'dialFromPort'>
  readonly table: Pick<LinkTable, 'peer' | 'dial' | 'accept'>
  readonly tasks: TaskGroup
  /** A relayed connection over which the attempt is agreed; undefined when there is none, or a direct one. */
  relayedConnection(peerId: string): PeerConnection | undefined
  /** How we are seen from outside now, with the listening port or with another one; rejects when no server can tell. */
  appearance(signal: AbortSignal, port?: MeetingPort): Promise<Appearance>
  nameOf(peerId: string): string | undefined
  /** The peer has flows to this node, and may be reached directly from here. */
  wantDirect(peerId: string): void
  readonly logger: Logger
  /** Default `openSidePort`. */
  readonly openPort?: typeof openSidePort
}

/** Dialling goes on for this long; the kernel repeats a lost SYN after 1 s and 3 s. */
const dialMs = 5000
const agreeTimeoutMs = 8000

/** The direct connector may be faster, and needs no NAT to be opened. */
const headStartMs = 300
const maxStreams = 16

/** Without new flows for this long nobody waits for a better path, or for one more link. */
const wantedMs: Readonly<Record<LinkKind, number>> = { shared: 60_000, bulk: 10_000, datagram: 10_000 }

/** With so many peers remembered, those of which there is nothing to remember are forgotten. */
const manyAttempts = 512

/**
 * Makes links through NATs by simultaneous open (RFC 9293 section 3.5) for peers that are reached through a relay and have
 * traffic: the first one between the two listening ports, further ones, and every other attempt for the first one, from a new
 * port at the lower identity. It works in the background; nothing waits for it.
 */
export class Puncher implements Disposable {
  readonly #options: PuncherOptions
  readonly #meeting: MeetingPoint
  readonly #attempts = new Map<string, Attempts>()
  readonly #lastErrors = new LastErrors()

  constructor(options: PuncherOptions) {
    this.#options = options
    this.#meeting = new MeetingPoint(options.host)
  }

  [Symbol.dispose](): void {
    this.#meeting[Symbol.dispose]()
  }

  /** Flows could use a direct link of this kind to the peer: seeks one unless it stands or an attempt is under way. */
  want(peerId: string, kind: LinkKind): void {
    if (!this.#isWorthwhile(peerId, kind)) return
    const attempts = this.#attemptsOf(peerId, kind)
    attempts.noteWanted(performance.now())
    this.#begin(peerId, kind, attempts)
  }

  /** Addresses or servers have changed: waiting makes no sense any more. */
  changed(): void {
    for (const attempts of this.#attempts.values()) attempts.reset()
  }

  /** The same for one peer, of which there is news. */
  retry(peerId: string): void {
    this.#attempts.get(keyOf(peerId, 'shared'))?.reset()
  }

  /** Why no hole was punched last time. */
  lastErrorOf(peerId: string): string | undefined {
    return this.#options.table.peer(peerId)?.best()?.isDirect ? undefined : this.#lastErrors.of(peerId)
  }

  /** Answers peers that want to meet. */
  async serve(): Promise<void> {
    const { host, tasks } = this.#options
    await host.handle({
      protocol: punchProtocol,
      maxStreams,
      onStream: (stream, from) => {
        stream.on('error', ignoreError)
        tasks.run('hole punching request', async (stopping) => {
          try {
            await this.#answer(stream, from.peerId, stopping)
            stream.end()
            stream.resume()
          } catch (error) {
            this.#noteFailure(from.peerId, 'shared', error)
            stream.destroy()
          }
        })
      },
    })
  }

  /** One more is worthwhile only where the first one is such a link, not beside a direct libp2p connection. */
  #isWorthwhile(peerId: string, kind: LinkKind): boolean {
    const { table, relayedConnection } = this.#options
    const hasFirst = table.peer(peerId)?.best()?.isDirect === true
    if (hasFirst !== (kind !== 'shared') || relayedConnection(peerId) === undefined) return false
    return kind === 'shared' || this.#directLinks(peerId, kind) < wantedLinks[kind]
  }

  #directLinks(peerId: string, kind: LinkKind): number {
    const links = this.#options.table.peer(peerId)?.usable(kind) ?? []
    return links.filter(({ isDirect }) => isDirect).length
  }

  #attemptsOf(peerId: string, kind: LinkKind): Attempts {
    const key = keyOf(peerId, kind)
    const known = this.#attempts.get(key)
    if (known !== undefined) return known
    if (this.#attempts.size >= manyAttempts) {
      for (const [each, attempts] of this.#attempts) {
        if (attempts.isStale(performance.now())) this.#attempts.delete(each)
      }
    }
    const fresh = new Attempts()
    this.#attempts.set(key, fresh)
    return fresh
  }

  #begin(peerId: string, kind: LinkKind, attempts: Attempts): void {
    if (attempts.isRunning || this.#options.tasks.signal.aborted) return
    attempts.isRunning = true
    this.#options.tasks.run('hole punching', async (signal) => {
      try {
        if (kind === 'shared') await sleep(headStartMs, signal)
        await this.#attemptAgain(peerId, kind, attempts, signal)
      } finally {
        attempts.isRunning = false
      }
    })
  }

  async #attemptAgain(peerId: string, kind: LinkKind, attempts: Attempts, signal: AbortSignal): Promise<void> {
    while (this.#isWorthwhile(peerId, kind) && this.#isWanted(peerId, kind, attempts)) {
      if (attempts.delayMs(performance.now()) > 0) {
        await pause(attempts, signal)
        continue
      }
      const before = this.#directLinks(peerId, kind)
      try {
        const isNewPort = kind !== 'shared' || attempts.isNewPortDue
        await this.#attempt(peerId, { kind, isNewPort }, signal)
      } catch (error) {
        signal.throwIfAborted()
        this.#noteFailure(peerId, kind, error)
      }
      if (this.#directLinks(peerId, kind) > before) attempts.noteSuccess(performance.now())
      else attempts.noteFailure(performance.now())
    }
  }

  #isWanted(peerId: string, kind: LinkKind, attempts: Attempts): boolean {
    if (attempts.isWanted(performance.now(), wantedMs[kind])) return true
    return kind === 'shared' && (this.#options.table.peer(peerId)?.flowCount ?? 0) > 0
  }

  /** Only what keeps a peer from being reached directly is of interest to people. */
  #noteFailure(peerId: string, kind: LinkKind, error: unknown): void {
    const text = reasonOf(error)
    if (kind === 'shared') this.#lastErrors.note(peerId, `no hole punched: ${text}`)
    this.#options.logger.debug({ peer: this.#nameOf(peerId), error: text }, `no hole punched for a ${kind} link`)
  }

  async #attempt(
    peerId: string,
    { kind, isNewPort }: { readonly kind: LinkKind; readonly isNewPort: boolean },
    stopping: AbortSignal,
  ): Promise<void> {
    const connection = this.#options.relayedConnection(peerId)
    if (connection === undefined) throw new Error('there is no relayed connection to agree over')
    using limit = new TimeLimit(agreeTimeoutMs, stopping)
    if (this.#options.host.peerId > peerId) {
      // Whoever cannot tell how it is seen need not bother the other side.
      await this.#options.appearance(limit.signal)
      await withStream(connection, limit.signal, async (stream) => {
        await writeFrame(stream, { type: 'want', kind }, limit.signal)
      })
      await sleep(dialMs, stopping)
    } else if (!isNewPort) {
      const seen = await this.#options.appearance(limit.signal)
      await this.#lead({ connection, kind, seen, meeting: this.#meeting }, limit.signal, stopping)
    } else {
      using port = await (this.#options.openPort ?? openSidePort)()
      using meeting = new MeetingPoint(port)
      const seen = await this.#options.appearance(limit.signal, port)
      await this.#lead({ connection, kind, seen, meeting }, limit.signal, stopping)
    }
  }

  /** Our part when ours is the lower identity. */
  async #lead({ connection, kind, seen, meeting }: Lead, signal: AbortSignal, stopping: AbortSignal): Promise<void> {
    await withStream(connection, signal, async (stream) => {
      const agreed = await offerMeeting(stream, seen, signal)
      const done = new AbortController()
      using limit = new TimeLimit(dialMs, stopping, done.signal)
      let linking: Promise<void> | undefined
      const onSocket = (socket: TcpSocket) => {
        if (linking !== undefined) {
          socket.destroy()
          return
        }
        linking = this.#link(socket, connection.peerId, { kind, ...agreed }, stopping).finally(() => done.abort())
        linking.catch(() => {})
      }
      await meeting.meet({ ...agreed, signal: limit.signal, onSocket })
      if (linking === undefined) throw new Error(`no answer from ${textOf(agreed.candidates)}`)
      await linking
    })
  }

  async #link(
    socket: TcpSocket,
    peerId: string,
    { kind, path }: { readonly kind: LinkKind } & Agreement,
    signal: AbortSignal,
  ): Promise<void> {
    const address = `${socket.remoteAddress}:${socket.remotePort}`
    await this.#options.table.dial({ socket, path }, peerId, kind, signal)
    if (kind === 'shared') {
      this.#options.logger.info({ peer: this.#nameOf(peerId), address, path }, 'peer connected')
    }
  }

  /** Our part when ours is the higher identity, or the peer has traffic and we lead. */
  async #answer(stream: ByteStream, peerId: string, stopping: AbortSignal): Promise<void> {
    using limit = new TimeLimit(agreeTimeoutMs, stopping)
    const opening = openingSchema.parse(await readFrame(stream, punchFrameLimitBytes, limit.signal))
    const isLeader = this.#options.host.peerId < peerId
    this.#options.wantDirect(peerId)
    if (opening.type === 'want') {
      if (isLeader) this.#onAsked(peerId, opening.kind)
      return
    }
    if (isLeader) throw new Error('the peer takes our part')
    const seen = await this.#options.appearance(limit.signal).catch((error: unknown) => describeError(error))
    const agreed = await takeMeeting(stream, opening, seen, limit.signal)
    if (typeof agreed === 'string') this.#noteFailure(peerId, 'shared', new Error(agreed))
    else await this.#follow(agreed, stopping)
  }

  #onAsked(peerId: string, kind: LinkKind): void {
    if (!this.#isWorthwhile(peerId, kind)) return
    const attempts = this.#attemptsOf(peerId, kind)
    attempts.noteAsked(performance.now())
    this.#begin(peerId, kind, attempts)
  }

  async #follow({ token, candidates, path }: Agreement, stopping: AbortSignal): Promise<void> {
    using dialling = new TimeLimit(dialMs, stopping)
    let isMet = false
    await this.#meeting.meet({
      token,
      candidates,
      signal: dialling.signal,
      onSocket: (socket) => {
        isMet = true
        this.#options.table.accept({ socket, path })
      },
    })
    if (!isMet) throw new Error(`no answer from ${textOf(candidates)}`)
  }

  #nameOf(peerId: string): string {
    return this.#options.nameOf(peerId) ?? peerId
  }
}

interface Lead {
  readonly connection: PeerConnection
  readonly kind: LinkKind
  readonly seen: Appearance
  readonly meeting: MeetingPoint
}

async function withStream(
  connection: PeerConnection,
  signal: AbortSignal,
  use: (stream: ByteStream) => Promise<void>,
): Promise<void> {
  const stream = await connection.openStream(punchProtocol, signal)
  stream.on('error', ignoreError)
  try {
    await use(stream)
  } finally {
    stream.end()
    stream.resume()
  }
}

async function pause(attempts: Attempts, signal: AbortSignal): Promise<void> {
  const woken = new AbortController()
  attempts.wake = () => woken.abort()
  using limit = new TimeLimit(attempts.delayMs(performance.now()), signal, woken.signal)
  await aborted(limit.signal)
  signal.throwIfAborted()
}

function keyOf(peerId: string, kind: LinkKind): string {
  return `${kind} ${peerId}`
}

function textOf(candidates: readonly SocketAddress[]): string {
  return candidates.map(({ address, port }) => `${address}:${port}`).join(', ')
}

function reasonOf(error: unknown): string {
  if (isUnsupported(error)) return 'the other side takes no part'
  // Its details are about our schema: people see them in the status.
  if (error instanceof z.ZodError) return 'the other side left, or said something that this version does not know'
  return describeError(error)
}
