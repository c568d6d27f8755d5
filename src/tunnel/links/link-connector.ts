import * as z from 'zod'
import { ignoreError } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { type BackoffPolicy, backoffDelayMs, firstOf, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { answerOnce, askOnce } from '../frames.ts'
import type { Host } from '../host/host.ts'
import { isDirect, isUnsupported, type PeerConnection } from '../host/peer-connection.ts'
import { askForSplice, SpliceRefusedError } from '../relay/splice-client.ts'
import { type LinkKind, linkKinds } from './hello.ts'
import type { Link } from './link.ts'
import type { LinkTable } from './link-table.ts'

/** A peer that cannot dial us itself asks us to make a link. */
export const linkAskProtocol = '/edgemesh/link/1.0.0'

/** A connection that is to become a link begins with this. */
export const linkMagic = 'EDGELINK'

/** A relay that is connected and could join us to a peer. */
export interface RelayWay {
  readonly connection: PeerConnection
  /** How links that it joins travel: `relayed via NAME`. */
  readonly path: string
  /** Without an answer for this long the next relay is asked as well. */
  readonly patienceMs: number
}

/** What making links needs. */
export interface LinkConnectorOptions {
  readonly host: Pick<Host, 'peerId' | 'dialAgain' | 'handle' | 'handleRaw'>
  readonly table: Pick<LinkTable, 'peer' | 'dial' | 'accept'>
  readonly tasks: TaskGroup
  /** The connection that shows the best path to the peer now. */
  bestConnection(peerId: string): PeerConnection | undefined
  /** Relays that reach the peer, best first; none where links may not be relayed. */
  relaysTo(peerId: string): readonly RelayWay[]
  /** `lan`, `direct` or `relayed via NAME`. */
  pathOf(connection: PeerConnection): string
  /** The same for a peer that has connected to us from this IP address. */
  pathFrom(address: string): string
  /** An attempt has ended, whichever way. */
  onSettled(): void
  readonly logger: Logger
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
}

const askSchema = z.object({ dial: z.enum(linkKinds) })
const askAnswerSchema = z.union([z.object({ ok: z.literal(true) }), z.object({ error: z.string().max(1024) })])
const frameLimitBytes = 2048
const attemptTimeoutMs = 8000

/** A peer that speaks no links, or to which none can be made, is asked again ever less often. */
const retryPolicy: BackoffPolicy = { firstMs: 2000, maxMs: 120_000, jitter: 0.3 }

/** While flows wait for a link, that is not long. */
const strandedRetryMs = 1000
const hopefulRetryMs = 300

/** A peer that asks for one more may know that links are dead which were not heard of for this long. */
const aliveMs = 2000

/** Links of each kind that are made for one peer. */
export const wantedLinks: Readonly<Record<LinkKind, number>> = { shared: 2, bulk: 4, datagram: 1 }
const maxAsksPerConnection = 16

/**
 * New flows wait this long for the first link: what begins on a slower carrier stays there. A relay that is 400 ms away
 * needs it. Where all attempts within that time failed, they wait for a moment only.
 */
const hopeMs = 5000
const faintHopeMs = 100

/** A direct link that takes longer gets a relayed one beside it, if there is none. */
const detourAfterMs = 1000

interface Attempts {
  failed: number
  failedAtMs: number
  notBeforeMs: number
  /** The peer, or all relays, have said that they take no part. */
  isHopeless: boolean
  /** When the first one began, or there was news. */
  sinceMs: number
  /** By kind, since when. */
  readonly running: Map<LinkKind, number>
  /** Of the route; another one is worth a try at once. */
  readonly key: string
}

/** How a link to a peer can be made now: along a direct connection, or through one of some relays. */
interface Route {
  /** Of the connections that show it. */
  readonly key: string
  readonly path: string
  readonly ways: { readonly direct: PeerConnection } | { readonly relays: readonly RelayWay[] }
}

/**
 * Makes links along the paths that libp2p connections show: dials where a direct connection went, asks the peer to do so
 * where it was the one who dialled, and else asks a relay for a splice, for which no connection to the peer is needed.
 */
export class LinkConnector {
  readonly #options: LinkConnectorOptions
  readonly #nowMs: () => number
  readonly #attempts = new Map<string, Attempts>()
  /** Through another relay than one that is silent, by peer and that relay. */
  readonly #others = new Map<string, Promise<Link>>()
  /** Relays that join nobody: those of the Go system. */
  readonly #joinless = new WeakSet<PeerConnection>()

  constructor(options: LinkConnectorOptions) {
    this.#options = options
    this.#nowMs = options.nowMs ?? (() => performance.now())
  }

  /** Begins to make a link of this kind to the peer, unless there are enough on the best path or it failed lately. */
  want(peerId: string, kind: LinkKind): void {
    const route = this.#routeTo(peerId)
    if (route === undefined || this.#options.tasks.signal.aborted) return
    if ('relays' in route.ways && this.#options.table.peer(peerId)?.best()?.isDirect) return
    const attempts = this.#attemptsOf(peerId, route)
    if (attempts.running.has(kind) || this.#nowMs() < this.#notBeforeMs(peerId, attempts)) return
    if (this.#linksOn(peerId, kind, route.path).length >= wantedLinks[kind]) return
    attempts.running.set(kind, this.#nowMs())
    this.#options.tasks.run(`${kind} link`, async (stopping) => {
      using limit = new TimeLimit(attemptTimeoutMs, stopping)
      try {
        await this.#make(peerId, kind, route, limit.signal)
        attempts.failed = 0
      } catch (error) {
        if (stopping.aborted) return
        this.#noteFailure(attempts, error)
        this.#options.logger.debug({ peer: peerId, path: route.path, error: describeError(error) }, `no ${kind} link`)
      } finally {
        attempts.running.delete(kind)
        this.#forget(peerId, attempts)
        this.#options.onSettled()
      }
    })
  }

  /**
   * For how many milliseconds more the first link to the peer is worth waiting for; 0 when none is being made, or none can
   * be. While it is, `want` tries again soon after a failure.
   */
  hopeMs(peerId: string): number {
    const attempts = this.#attempts.get(peerId)
    if (attempts === undefined || attempts.isHopeless) return 0
    const startedMs = attempts.running.get('shared')
    if (startedMs === undefined && attempts.failed === 0) return 0
    const faintMs = startedMs === undefined ? 0 : startedMs + faintHopeMs - this.#nowMs()
    return Math.max(0, faintMs, this.#firstHopeMs(attempts))
  }

  /** There is news of the peer: what failed before does not count, unless it takes no part at all. */
  retry(peerId: string): void {
    const attempts = this.#attempts.get(peerId)
    if (attempts !== undefined && !attempts.isHopeless) {
      Object.assign(attempts, { sinceMs: this.#nowMs(), notBeforeMs: 0 })
    }
  }

  /** A link through another relay than this one: one that stands, else a new one; undefined when there is no such relay. */
  async another(peerId: string, relayPeerId: string | undefined): Promise<Link | undefined> {
    const { table, tasks } = this.#options
    const relays = this.#relaysTo(peerId).filter(({ connection }) => connection.peerId !== relayPeerId)
    if (relays.length === 0) return undefined
    const links = table.peer(peerId)?.usable('shared') ?? []
    const standing = links.find(({ path }) => relays.some((relay) => relay.path === path))
    if (standing !== undefined) return standing
    const key = `${peerId} ${relayPeerId}`
    const running = this.#others.get(key)
    if (running !== undefined) return await running
    const limit = new TimeLimit(attemptTimeoutMs, tasks.signal)
    const making = this.#splice(peerId, 'shared', relays, limit.signal).finally(() => {
      limit[Symbol.dispose]()
      this.#others.delete(key)
    })
    this.#others.set(key, making)
    return await making
  }

  /** Serves peers that ask us to dial, and sockets that begin a link. */
  async serve(): Promise<void> {
    const { host, table, tasks, logger } = this.#options
    host.handleRaw(linkMagic, (socket) => {
      table.accept({ socket, path: this.#options.pathFrom(socket.remoteAddress ?? '') })
    })
    await host.handle({
      protocol: linkAskProtocol,
      maxStreams: maxAsksPerConnection,
      onStream: (stream, from) => {
        tasks.run('link request', async (stopping) => {
          using limit = new TimeLimit(attemptTimeoutMs, stopping)
          const answerTo = (ask: unknown) => this.#answerTo(from, askSchema.parse(ask).dial, limit.signal)
          await answerOnce(stream, answerTo, frameLimitBytes, limit.signal).catch((error: unknown) =>
            logger.debug({ peer: from.peerId, error: describeError(error) }, 'link request failed'),
          )
        })
      },
    })
  }

  async #answerTo(from: PeerConnection, kind: LinkKind, signal: AbortSignal): Promise<object> {
    const path = this.#options.pathOf(from)
    if (!this.#isDialler(from)) return { error: 'it is not up to this end to dial' }
    const deadMs = performance.now() - aliveMs
    const alive = this.#linksOn(from.peerId, kind, path).filter(({ lastHeardMs }) => lastHeardMs > deadMs)
    if (alive.length >= wantedLinks[kind]) return { error: 'there are enough links' }
    try {
      if (isDirect(from)) await this.#dial(from, kind, path, signal)
      else await this.#splice(from.peerId, kind, this.#relaysTo(from.peerId, from.relayPeerId), signal)
      return { ok: true }
    } catch (error) {
      return { error: describeError(error).slice(0, 1024) }
    }
  }

  /** Which of the two ends dials when one asks: who has dialled before; peers of earlier versions ask through relays too. */
  #isDialler({ isOutbound, relayPeerId, peerId }: PeerConnection): boolean {
    return relayPeerId === undefined ? isOutbound : this.#options.host.peerId < peerId
  }

  #routeTo(peerId: string): Route | undefined {
    const connection = this.#options.bestConnection(peerId)
    if (connection !== undefined && isDirect(connection)) {
      return { key: connection.id, path: this.#options.pathOf(connection), ways: { direct: connection } }
    }
    const relays = this.#relaysTo(peerId)
    const key = relays.map(({ connection: { id } }) => id).sort()
    const [first] = relays
    return first && { key: key.join(' '), path: first.path, ways: { relays } }
  }

  /** Relays that may join us to the peer; only the one that is named, if any. */
  #relaysTo(peerId: string, relayPeerId?: string): RelayWay[] {
    return this.#options
      .relaysTo(peerId)
      .filter(({ connection }) => relayPeerId === undefined || connection.peerId === relayPeerId)
      .filter(({ connection }) => !this.#joinless.has(connection))
  }

  async #make(peerId: string, kind: LinkKind, { path, ways }: Route, signal: AbortSignal): Promise<void> {
    if ('relays' in ways) {
      await this.#splice(peerId, kind, ways.relays, signal)
      return
    }
    const throughRelay = () => void this.#insteadOf(peerId, kind)
    const timer = setTimeout(throughRelay, detourAfterMs)
    try {
      if (ways.direct.isOutbound) await this.#dialOrTell(ways.direct, kind, path, signal)
      else await this.#ask(ways.direct, kind, signal)
    } catch (error) {
      if (!isFinal(error)) throughRelay()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** Flows that wait need not wait for a direct path that may be dead. */
  async #insteadOf(peerId: string, kind: LinkKind): Promise<void> {
    const { table, tasks } = this.#options
    if (kind !== 'shared' || table.peer(peerId)?.best() !== undefined || tasks.signal.aborted) return
    await this.another(peerId, undefined).catch(ignoreError)
  }

  async #ask(connection: PeerConnection, kind: LinkKind, signal: AbortSignal): Promise<void> {
    const stream = await connection.openStream(linkAskProtocol, signal)
    const answer = askAnswerSchema.parse(await askOnce(stream, { dial: kind }, frameLimitBytes, signal))
    if ('error' in answer) throw new Error(`the peer does not dial: ${answer.error}`)
  }

  /** A peer that speaks no links does not say so where it is dialled, but where it is asked. */
  async #dialOrTell(connection: PeerConnection, kind: LinkKind, path: string, signal: AbortSignal): Promise<void> {
    const assertSpeaks = async () => void (await connection.openStream(linkAskProtocol, signal)).destroy()
    try {
      await this.#dial(connection, kind, path, signal)
    } catch (error) {
      await assertSpeaks()
      throw error
    }
  }

  async #dial(connection: PeerConnection, kind: LinkKind, path: string, signal: AbortSignal): Promise<void> {
    const socket = await this.#options.host.dialAgain(connection, signal)
    socket.write(linkMagic)
    await this.#options.table.dial({ socket, path }, connection.peerId, kind, signal)
  }

  /** Through the first relay that joins us to the peer; rejects with the failure that gives most hope. */
  async #splice(peerId: string, kind: LinkKind, relays: readonly RelayWay[], signal: AbortSignal): Promise<Link> {
    const won = new AbortController()
    using limit = new TimeLimit(attemptTimeoutMs, signal, won.signal)
    const failures: unknown[] = []
    const attempts = relays.map((relay) => ({
      begin: () => this.#spliceThrough(relay, peerId, kind, limit.signal),
      patienceMs: relay.patienceMs,
    }))
    const link = await firstOf(attempts, (error) => void failures.push(error))
    if (link === undefined) {
      throw failures.find((failure) => !isFinal(failure)) ?? failures[0] ?? new Error('no relay reaches the peer')
    }
    won.abort(new Error('another relay was faster'))
    return link
  }

  async #spliceThrough(
    { connection, path }: RelayWay,
    peerId: string,
    kind: LinkKind,
    signal: AbortSignal,
  ): Promise<Link> {
    try {
      const socket = await askForSplice(this.#options.host, connection, peerId, signal)
      return await this.#options.table.dial({ socket, path }, peerId, kind, signal)
    } catch (error) {
      if (isUnsupported(error)) this.#joinless.add(connection)
      throw error
    }
  }

  #noteFailure(attempts: Attempts, error: unknown): void {
    attempts.failed += 1
    attempts.failedAtMs = this.#nowMs()
    attempts.notBeforeMs = attempts.failedAtMs + backoffDelayMs(retryPolicy, attempts.failed, Math.random)
    attempts.isHopeless = isFinal(error)
  }

  #linksOn(peerId: string, kind: LinkKind, path: string): Link[] {
    const links = this.#options.table.peer(peerId)?.usable(kind) ?? []
    return links.filter((link) => link.path === path)
  }

  #firstHopeMs({ sinceMs }: Attempts): number {
    return sinceMs + hopeMs - this.#nowMs()
  }

  #notBeforeMs(peerId: string, attempts: Attempts): number {
    const { notBeforeMs, failedAtMs, isHopeless } = attempts
    if (!isHopeless && this.#firstHopeMs(attempts) > 0) return Math.min(notBeforeMs, failedAtMs + hopefulRetryMs)
    const isStranded = this.#options.table.peer(peerId)?.isStranded ?? false
    return isStranded ? Math.min(notBeforeMs, failedAtMs + strandedRetryMs) : notBeforeMs
  }

  #attemptsOf(peerId: string, { key }: Route): Attempts {
    const known = this.#attempts.get(peerId)
    if (known?.key === key) return known
    const sinceMs = this.#nowMs()
    const fresh = { failed: 0, failedAtMs: 0, notBeforeMs: 0, isHopeless: false, sinceMs, running: new Map(), key }
    this.#attempts.set(peerId, fresh)
    return fresh
  }

  #forget(peerId: string, attempts: Attempts): void {
    const isOver = attempts.failed === 0 && attempts.running.size === 0
    if (isOver && this.#attempts.get(peerId) === attempts) this.#attempts.delete(peerId)
  }
}

/** Asking again would change nothing. */
function isFinal(error: unknown): boolean {
  return isUnsupported(error) || (error instanceof SpliceRefusedError && error.isFinal)
}
