import type { Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import { waitsSinceMs } from '../host/silence.ts'
import type { Link } from '../links/link.ts'

/** A link, as far as its silence goes. */
export type WatchedLink = Pick<Link, 'path' | 'isDirect' | 'lastHeardMs' | 'bytesWritten' | 'probe' | 'close'>

/** What watching relays needs. */
export interface RelayWatchOptions {
  readonly host: Pick<Host, 'connections' | 'connectionsTo' | 'onConnection' | 'onSilent'>
  /** The links to all peers. */
  links(): Iterable<WatchedLink>
  /** True for a peer through which this node reaches others. */
  isRelay(peerId: string): boolean
  /** The relay that has joined a link; undefined when it is no longer configured. */
  relayOf(link: WatchedLink): string | undefined
  readonly tasks: TaskGroup
  readonly logger: Logger
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
  /** Default `sleep`. */
  readonly pause?: typeof sleep
}

const tickMs = 500

/** Links through a silent relay that were heard of within this time live. */
const aliveMs = 2500

/** A relay that is silent for this long lets others be asked: are they heard, it is not our line that is away. */
const doubtMs = 1000

/** More connections than this are not asked. */
const maxAsked = 4

/** How long links have to answer after the line was away: what TCP sends again may take its time. */
const lateAnswerMs = 3000

/**
 * Relays join links on connections of their own, which say nothing of the relay. This watch lets the relay's own
 * connection be asked when a link through it sends and hears nothing, and when the relay is given up, ends the links
 * through it that are silent as well, unless nobody at all is heard: then the line of this node is away, and flows
 * outlive that if it is short.
 */
export class RelayWatch implements Disposable {
  readonly #options: RelayWatchOptions
  readonly #nowMs: () => number
  readonly #pause: typeof sleep
  readonly #written = new WeakMap<WatchedLink, number>()
  readonly #doubted = new Set<string>()
  readonly #running = new DisposableStack()

  constructor(options: RelayWatchOptions) {
    const { host, nowMs = () => performance.now(), pause = sleep } = options
    this.#options = options
    this.#nowMs = nowMs
    this.#pause = pause
    const timer = setInterval(() => this.#tick(), tickMs)
    this.#running.defer(() => clearInterval(timer))
    this.#running.use(host.onSilent((connection) => this.#onSilent(connection)))
    this.#running.use(host.onConnection((event, connection) => event === 'open' && this.#onOpen(connection)))
  }

  [Symbol.dispose](): void {
    this.#running.dispose()
  }

  #tick(): void {
    this.#noteWaitingLinks()
    const { host, isRelay } = this.#options
    const nowMs = this.#nowMs()
    const all = host.connections()
    const connections = all.filter(isDirect)
    const isDoubted = (connection: PeerConnection) =>
      isRelay(connection.peerId) && nowMs - (waitsSinceMs(connection, all) ?? nowMs) >= doubtMs
    const others = connections.filter(
      (connection) => !isDoubted(connection) && nowMs - connection.lastHeardMs > doubtMs,
    )
    if (others.length === connections.length || !connections.some(isDoubted)) return
    for (const other of others.slice(0, maxAsked)) void ask(other)
  }

  /** Finds links that have sent since the last tick and heard nothing since then, and those that were heard. */
  #noteWaitingLinks(): void {
    for (const link of this.#options.links()) {
      const before = this.#written.get(link) ?? link.bytesWritten
      this.#written.set(link, link.bytesWritten)
      if (!link.isDirect) this.#note(link, link.bytesWritten !== before)
    }
  }

  #note(link: WatchedLink, hasSent: boolean): void {
    const sinceMs = this.#nowMs() - tickMs
    const isHeard = link.lastHeardMs >= sinceMs
    if (!isHeard && !hasSent) return
    for (const connection of this.#relayOf(link)) {
      if (isHeard) connection.noteJoinedHeard(link.lastHeardMs)
      else connection.noteAsked(sinceMs)
    }
  }

  /** The connections to the relay that has joined the link. */
  #relayOf(link: WatchedLink): readonly PeerConnection[] {
    const { host, relayOf } = this.#options
    const relay = relayOf(link)
    return relay === undefined ? [] : host.connectionsTo(relay)
  }

  #onSilent(connection: PeerConnection): void {
    const { peerId } = connection
    const suspects = this.#silentLinks(peerId)
    if (suspects.length === 0) return
    const all = this.#options.host.connections()
    const sinceMs = (waitsSinceMs(connection, all) ?? connection.lastHeardMs) + doubtMs
    const others = all.filter((other) => isDirect(other) && other.peerId !== peerId)
    if (others.some(({ lastHeardMs }) => lastHeardMs > sinceMs)) this.#end(suspects)
    else this.#doubted.add(peerId)
  }

  /** The line is there again. */
  #onOpen(connection: PeerConnection): void {
    if (connection.relayPeerId !== undefined || this.#doubted.size === 0) return
    const suspects = [...this.#doubted].flatMap((peerId) => this.#silentLinks(peerId))
    this.#doubted.clear()
    this.#options.tasks.run('relay that was silent', async (signal) => {
      const startedMs = this.#nowMs()
      for (const link of suspects) link.probe()
      await this.#pause(lateAnswerMs, signal)
      this.#end(suspects.filter(({ lastHeardMs }) => lastHeardMs < startedMs))
    })
  }

  #silentLinks(relayPeerId: string): WatchedLink[] {
    const { links, relayOf } = this.#options
    const sinceMs = this.#nowMs() - aliveMs
    return [...links()].filter((link) => !link.isDirect && link.lastHeardMs < sinceMs && relayOf(link) === relayPeerId)
  }

  #end(silent: readonly WatchedLink[]): void {
    for (const link of silent) link.close(new Error('nothing is heard of the relay'))
    const [first] = silent
    if (first !== undefined) {
      this.#options.logger.info({ path: first.path, count: silent.length }, 'links ended: their relay is silent')
    }
  }
}

async function ask(connection: PeerConnection): Promise<void> {
  using limit = new TimeLimit(lateAnswerMs)
  await connection.probe(limit.signal).catch(() => {})
}
