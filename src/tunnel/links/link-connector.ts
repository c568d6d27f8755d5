import * as z from 'zod'
import { describeError, type Logger } from '../../observability/index.ts'
import { aborted, type BackoffPolicy, backoffDelayMs, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { askForSplice } from '../relay/splice-client.ts'
import { type LinkKind, linkKinds } from './hello.ts'
import type { Link } from './link.ts'
import type { LinkTable } from './link-table.ts'

/** A peer that cannot dial us itself asks us to make a link. */
export const linkAskProtocol = '/edgemesh/link/1.0.0'

/** A connection that is to become a link begins with this. */
export const linkMagic = 'EDGELINK'

/** What making links needs. */
export interface LinkConnectorOptions {
  readonly host: Host
  readonly table: LinkTable
  readonly tasks: TaskGroup
  /** The connection that shows the best path to the peer now. */
  bestConnection(peerId: string): PeerConnection | undefined
  /** `lan`, `direct` or `relayed via NAME`. */
  pathOf(connection: PeerConnection): string
  /** The same for a peer that has connected to us from this IP address. */
  pathFrom(address: string): string
  readonly logger: Logger
}

const askSchema = z.object({ dial: z.enum(linkKinds) })
const askAnswerSchema = z.union([z.object({ ok: z.literal(true) }), z.object({ error: z.string().max(1024) })])
const frameLimitBytes = 2048
const attemptTimeoutMs = 8000

/** A peer that speaks no links, or to which none can be made, is asked again ever less often. */
const retryPolicy: BackoffPolicy = { firstMs: 2000, maxMs: 120_000, jitter: 0.3 }

/** While flows wait for a link, that is not long. */
const strandedRetryMs = 1000

/** A peer that asks for one more may know that links are dead which were not heard of for this long. */
const aliveMs = 2000

/** Links of each kind that are made for one peer. */
export const wantedLinks: Readonly<Record<LinkKind, number>> = { shared: 2, bulk: 4, datagram: 1 }
const maxAsksPerConnection = 16

/**
 * New flows wait this long for the first link: what begins on a slower carrier stays there. A line of 100 ms needs it.
 * Where the last attempt failed, they wait for a moment only.
 */
const hopeMs = 1500
const faintHopeMs = 100

interface Attempts {
  failed: number
  failedAt: number
  notBefore: number
  readonly running: Map<LinkKind, { readonly startedMs: number; readonly settled: Promise<void> }>
  /** The connection whose path the attempts took; another one is worth a try at once. */
  readonly connectionId: string
}

/**
 * Makes links along the paths that libp2p connections show: dials where that connection went, asks the peer to do so
 * where it was the one who dialled, and asks for a splice where a relay is in between. Nothing waits for it.
 */
export class LinkConnector {
  readonly #options: LinkConnectorOptions
  readonly #attempts = new Map<string, Attempts>()

  constructor(options: LinkConnectorOptions) {
    this.#options = options
  }

  /** Begins to make a link of this kind to the peer, unless there are enough on the best path or it failed lately. */
  want(peerId: string, kind: LinkKind): void {
    const connection = this.#options.bestConnection(peerId)
    if (connection === undefined || this.#options.tasks.signal.aborted) return
    if (connection.relayPeerId !== undefined && this.#options.table.peer(peerId)?.best()?.isDirect) return
    const path = this.#options.pathOf(connection)
    const attempts = this.#attemptsOf(connection)
    if (attempts.running.has(kind) || performance.now() < this.#notBefore(peerId, attempts)) return
    if (this.#linksOn(peerId, kind, path).length >= wantedLinks[kind]) return
    const { promise, resolve: settled } = Promise.withResolvers<void>()
    attempts.running.set(kind, { startedMs: performance.now(), settled: promise })
    this.#options.tasks.run(`${kind} link`, async (stopping) => {
      using limit = new TimeLimit(attemptTimeoutMs, stopping)
      try {
        await this.#make(connection, kind, path, limit.signal)
        attempts.failed = 0
      } catch (error) {
        if (stopping.aborted) return
        attempts.failed += 1
        attempts.failedAt = performance.now()
        attempts.notBefore = attempts.failedAt + backoffDelayMs(retryPolicy, attempts.failed, Math.random)
        this.#options.logger.debug({ peer: peerId, path, error: describeError(error) }, `no ${kind} link`)
      } finally {
        attempts.running.delete(kind)
        this.#forget(peerId, attempts)
        settled()
      }
    })
  }

  /**
   * Resolves when the shared link that is being made stands or fails, and in any case some time after it was begun; at
   * once when none is being made. Rejects with the signal's reason.
   */
  async attemptSettled(peerId: string, signal: AbortSignal): Promise<void> {
    const attempts = this.#attempts.get(peerId)
    const attempt = attempts?.running.get('shared')
    const limitMs = attempts?.failed === 0 ? hopeMs : faintHopeMs
    const leftMs = attempt === undefined ? 0 : attempt.startedMs + limitMs - performance.now()
    if (attempt === undefined || leftMs <= 0) return
    using limit = new TimeLimit(leftMs, signal)
    await Promise.race([attempt.settled, aborted(limit.signal)])
    signal.throwIfAborted()
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
          try {
            const { dial: kind } = askSchema.parse(await readFrame(stream, frameLimitBytes, limit.signal))
            await writeFrame(stream, await this.#answerTo(from, kind, limit.signal), limit.signal)
            stream.end()
            stream.resume()
          } catch (error) {
            logger.debug({ peer: from.peerId, error: describeError(error) }, 'link request failed')
            stream.destroy()
          }
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
      await this.#dial(from, kind, path, signal)
      return { ok: true }
    } catch (error) {
      return { error: describeError(error).slice(0, 1024) }
    }
  }

  async #make(connection: PeerConnection, kind: LinkKind, path: string, signal: AbortSignal): Promise<void> {
    if (this.#isDialler(connection)) {
      await this.#dial(connection, kind, path, signal)
      return
    }
    const stream = await connection.openStream(linkAskProtocol, signal)
    try {
      await writeFrame(stream, { dial: kind }, signal)
      const answer = askAnswerSchema.parse(await readFrame(stream, frameLimitBytes, signal))
      if ('error' in answer) throw new Error(`the peer does not dial: ${answer.error}`)
    } finally {
      stream.end()
      stream.resume()
    }
  }

  async #dial(connection: PeerConnection, kind: LinkKind, path: string, signal: AbortSignal): Promise<void> {
    const { peerId, relayPeerId } = connection
    const socket =
      relayPeerId === undefined ? await this.#dialDirect(connection, signal) : await this.#splice(connection, signal)
    await this.#options.table.dial({ socket, path }, peerId, kind, signal)
  }

  async #dialDirect(connection: PeerConnection, signal: AbortSignal) {
    const socket = await this.#options.host.dialAgain(connection, signal)
    socket.write(linkMagic)
    return socket
  }

  async #splice({ peerId, relayPeerId = '' }: PeerConnection, signal: AbortSignal) {
    const relay = this.#options.host.connectionsTo(relayPeerId).find(({ isOutbound }) => isOutbound)
    if (relay === undefined) throw new Error('the relay is not connected')
    return await askForSplice(this.#options.host, relay, peerId, signal)
  }

  /** One of the two ends dials: who has dialled before, or through a relay, where both can, the lower identity. */
  #isDialler({ isOutbound, relayPeerId, peerId }: PeerConnection): boolean {
    return relayPeerId === undefined ? isOutbound : this.#options.host.peerId < peerId
  }

  #linksOn(peerId: string, kind: LinkKind, path: string): Link[] {
    const links = this.#options.table.peer(peerId)?.usable(kind) ?? []
    return links.filter((link) => link.path === path)
  }

  #notBefore(peerId: string, { failedAt, notBefore }: Attempts): number {
    const isStranded = this.#options.table.peer(peerId)?.isStranded ?? false
    return isStranded ? Math.min(notBefore, failedAt + strandedRetryMs) : notBefore
  }

  #attemptsOf({ peerId, id: connectionId }: PeerConnection): Attempts {
    const known = this.#attempts.get(peerId)
    if (known?.connectionId === connectionId) return known
    const fresh: Attempts = { failed: 0, failedAt: 0, notBefore: 0, running: new Map(), connectionId }
    this.#attempts.set(peerId, fresh)
    return fresh
  }

  #forget(peerId: string, attempts: Attempts): void {
    const isOver = attempts.failed === 0 && attempts.running.size === 0
    if (isOver && this.#attempts.get(peerId) === attempts) this.#attempts.delete(peerId)
  }
}
