import type { Link } from './link.ts'
import type { PeerLinks } from './peer-links.ts'

const tickMs = 1000

/** A link with flows on it is asked for a sign of life after this much silence, and given up after the second. */
const probeAfterMs = 5000
const deadAfterMs = 12_000

/** The same while somebody waits for an answer: another carrier may be tried. */
const waitingProbeMs = 1000
const waitingDeadMs = 4000

/** Who is sent bytes and has nothing to say for this long says that. */
const reassureAfterMs = 3000

/** Links stay this long after the last flow; bulk links are only worth their memory while there are long flows. */
const idleMs: Readonly<Record<Link['kind'], number>> = { shared: 60_000, bulk: 10_000, datagram: 60_000 }

/** Looks after links once a second: probes silent ones, gives up dead ones, lets idle ones go. Idle peers get no probes. */
export class LinkKeeper implements Disposable {
  readonly #peers: () => Iterable<PeerLinks>
  readonly #timer: NodeJS.Timeout
  /** What was written to each link, and since when that is all. */
  readonly #written = new WeakMap<Link, { readonly bytes: number; readonly sinceMs: number }>()
  #lastTickMs = performance.now()
  #awakeSinceMs = performance.now()

  constructor(peers: () => Iterable<PeerLinks>) {
    this.#peers = peers
    this.#timer = setInterval(() => this.tick(performance.now()), tickMs)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  tick(nowMs: number): void {
    // This process stood still, as in a suspended machine; what has come meanwhile is not read yet.
    if (nowMs - this.#lastTickMs > 3 * tickMs) this.#awakeSinceMs = nowMs
    this.#lastTickMs = nowMs
    for (const peer of [...this.#peers()]) {
      for (const link of [...peer.links]) this.#look(peer, link, nowMs)
      peer.tick(nowMs)
    }
  }

  #look(peer: PeerLinks, link: Link, nowMs: number): void {
    const isWaiting = peer.isWaitingOn(link)
    if (link.flows > 0 || isWaiting || hasDatagrams(link, nowMs)) {
      link.idleSinceMs = nowMs
      this.#reassure(link, nowMs)
      this.#probe(link, nowMs, isWaiting)
      return
    }
    // A probe without an answer counts also when the last flow has gone meanwhile.
    if (link.probedSinceMs !== undefined) this.#probe(link, nowMs, false)
    if (peer.isReleased(link)) link.close(new Error('idle'))
    else if (nowMs - link.idleSinceMs > idleMs[link.kind]) peer.retire(link)
  }

  #reassure(link: Link, nowMs: number): void {
    const written = this.#written.get(link)
    if (written?.bytes !== link.bytesWritten) {
      this.#written.set(link, { bytes: link.bytesWritten, sinceMs: nowMs })
    } else if (nowMs - written.sinceMs >= reassureAfterMs && nowMs - link.lastDataMs <= 2 * tickMs) link.reassure()
  }

  #probe(link: Link, nowMs: number, isWaiting: boolean): void {
    const silentMs = nowMs - Math.max(link.lastHeardMs, this.#awakeSinceMs)
    const limitMs = isWaiting ? waitingDeadMs : deadAfterMs
    const probeMs = isWaiting ? waitingProbeMs : probeAfterMs
    // A link that was idle until now is silent for long already, but was not asked.
    const askedMs = link.probedSinceMs === undefined ? 0 : nowMs - Math.max(link.probedSinceMs, this.#awakeSinceMs)
    if (silentMs >= limitMs && askedMs >= limitMs - probeMs) {
      link.abandon(new Error(`nothing was heard for ${limitMs / 1000} s`))
    } else if (silentMs >= (isUnanswered(link) ? waitingProbeMs : probeMs)) link.probe()
  }
}

/** Datagrams travel on it, whose flows belong to other links. */
function hasDatagrams({ kind, lastDatagramMs }: Link, nowMs: number): boolean {
  return kind === 'datagram' && nowMs - lastDatagramMs < probeAfterMs
}

/** A datagram is the last that has crossed it; nobody else would miss those that do not arrive. */
function isUnanswered({ lastDatagramMs, lastHeardMs }: Link): boolean {
  return lastDatagramMs > lastHeardMs
}
