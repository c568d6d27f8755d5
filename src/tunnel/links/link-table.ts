import type { TLSSocket } from 'node:tls'
import type { TcpSocket } from '../../net/index.ts'
import { resetStream } from '../../net/index.ts'
import { type Counter, describeError, type Logger, type Metrics, Seldom } from '../../observability/index.ts'
import { type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { FlowCounter, type FlowLimits } from '../flows/flow-limits.ts'
import type { IncomingFlow } from '../flows/incoming-flow.ts'
import { preSharedKeyRemedy } from '../identity/pre-shared-key.ts'
import { greet, type HandshakeOptions, welcome } from './handshake.ts'
import {
  type Hello,
  HelloError,
  type LinkCredentials,
  type LinkKind,
  linkCapabilities,
  linkVersions,
  type VersionRange,
} from './hello.ts'
import { isDirectPath, Link, type LinkOrigin } from './link.ts'
import { LinkKeeper } from './link-keeper.ts'
import { PeerLinks } from './peer-links.ts'
import { createLinkTls, type LinkTls } from './tls.ts'
import { WindowBudget } from './window-budget.ts'

/** What the links of a node need. */
export interface LinkTableOptions {
  readonly credentials: LinkCredentials
  readonly self: Pick<Hello, 'name' | 'role' | 'sequence'>
  readonly tasks: TaskGroup
  /** Whether links may go this way; all may when absent. */
  allows?(path: string): boolean
  /** Why a peer that has proven its identity may not have that name; undefined when it may. */
  nameConflictOf(name: string, peerId: string): string | undefined
  onIncoming(flow: IncomingFlow, peer: { readonly peerId: string; readonly path: string }): void
  /** A link to the peer would be of use; the table is told when there is one, or why not. */
  onWant(peerId: string, kind: LinkKind): void
  /** Links have come or gone. */
  onChange(): void
  /** The last link to a peer was lost, and flows wait for another one; told again until there is one. */
  onStranded(peerId: string): void
  /** Nothing was heard on the link, or of its relay, while another one answered; default: never. */
  isDoubted?(link: Link): boolean
  /** How far the relay of a link is, as a round trip in milliseconds; default: all are alike. */
  distanceOf?(link: Link): number
  /** How long flows wait for that; 0 to end them at once. */
  readonly resumeMs: number
  readonly logger: Logger
  readonly metrics: Metrics
  /** For tests: another range makes this node an older or newer one. */
  readonly versions?: VersionRange
  readonly capabilities?: readonly string[]
  readonly budget?: WindowBudget
}

/** How a socket became ours to make a link of. */
export interface LinkSocket {
  readonly socket: TcpSocket
  /** For logs and the choice among links: `direct`, `punched` or `relayed via NAME`. */
  readonly path: string
}

const handshakeTimeoutMs = 5000

/** What a peer that is refused has to read why. */
const refusalMs = 1000

/**
 * Handshakes that others have begun and that are under way, in total and from one address: each costs a signature and some
 * memory, and one host must not take the room of all. All that is relayed comes from the relay's address.
 */
export const handshakeLimits: FlowLimits = { total: 256, perPeer: 128 }

/** Links of one peer, of each kind, direct ones and relayed ones each; both ends may have made some. */
const maxLinks: Readonly<Record<LinkKind, number>> = { shared: 6, bulk: 8, datagram: 2 }

/** Links that are silent for this long make room for new ones when there are too many: the peer knows first that they are dead. */
const silentMs = 3000
/** The same with flows on it, which are probed more often than this. */
const silentWithFlowsMs = 8000

/** One line per peer in this time, so that a node with the wrong key does not fill the log. */
const quietMs = 60_000

/** All links of this node: makes them of sockets, knows them by peer, ends them when they are idle or dead. */
export class LinkTable implements AsyncDisposable {
  readonly #options: LinkTableOptions
  readonly #tls: LinkTls = createLinkTls()
  readonly #session = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex')
  readonly #peers = new Map<string, PeerLinks>()
  readonly #budget: WindowBudget
  readonly #seldom = new Seldom(quietMs)
  readonly #handshakes = new FlowCounter(handshakeLimits)
  readonly #failed: Counter
  readonly #resumed: Counter
  readonly #keeper: LinkKeeper
  #isClosed = false

  constructor(options: LinkTableOptions) {
    this.#options = options
    this.#budget = options.budget ?? new WindowBudget()
    this.#failed = options.metrics.counter('tunnel_link_failures_total', 'Links that were not made, by end', ['end'])
    this.#resumed = options.metrics.counter('tunnel_resumed_flows_total', 'Flows that went on after a lost link')
    this.#keeper = new LinkKeeper(() => this.#peers.values())
  }

  /** Bytes that wait for slow readers in all flows. */
  get heldBytes(): number {
    return this.#budget.heldBytes
  }

  /** Bytes that are kept in case that they have to be sent again. */
  get replayBytes(): number {
    return this.#budget.replayBytes
  }

  get all(): Iterable<PeerLinks> {
    return this.#peers.values()
  }

  peer(peerId: string): PeerLinks | undefined {
    return this.#peers.get(peerId)
  }

  /** Makes a link of a socket that we have connected to the peer; owns the socket. Rejects when it is not that peer. */
  async dial({ socket, path }: LinkSocket, peerId: string, kind: LinkKind, signal: AbortSignal): Promise<Link> {
    let secured: TLSSocket | undefined
    try {
      if (this.#options.allows?.(path) === false) throw new Error('this path is switched off')
      using limit = new TimeLimit(handshakeTimeoutMs, signal)
      const tls = await this.#tls.secure(socket, 'client', limit.signal)
      secured = tls
      const agreed = await greet(tls, peerId, this.#handshakeOptions(kind, path), limit.signal)
      return this.#add(tls, { kind, agreed, path, reset: () => resetUnder(tls, socket) })
    } catch (error) {
      this.#noteFailure('client', peerId, path, error)
      resetUnder(secured, socket)
      throw error
    }
  }

  /** Makes a link of a socket that a peer has connected to us; owns the socket, and logs what goes wrong. */
  accept({ socket, path }: LinkSocket): void {
    const from = socket.remoteAddress ?? 'unknown'
    const isWelcome = this.#options.allows?.(path) !== false && !this.#isClosed && !this.#options.tasks.signal.aborted
    const entered = isWelcome ? this.#handshakes.enter(from) : undefined
    if (entered === undefined) {
      socket.destroy()
      return
    }
    this.#options.tasks.run('inbound link', async (stopping) => {
      using _entered = entered
      let secured: TLSSocket | undefined
      try {
        using limit = new TimeLimit(handshakeTimeoutMs, stopping)
        const tls = await this.#tls.secure(socket, 'server', limit.signal)
        secured = tls
        const agreed = await welcome(tls, this.#handshakeOptions('shared', path), limit.signal)
        this.#add(tls, { kind: agreed.hello.kind, agreed, path, reset: () => resetUnder(tls, socket) })
      } catch (error) {
        this.#noteFailure('server', from, path, error)
        // A refusal in words is still on its way.
        if (error instanceof HelloError) setTimeout(() => socket.destroy(), refusalMs).unref()
        else resetUnder(secured, socket)
      }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    this.#keeper[Symbol.dispose]()
    for (const peer of [...this.#peers.values()]) peer.close(new Error('the node stops'), true)
  }

  #handshakeOptions(kind: LinkKind, path: string): HandshakeOptions {
    const { credentials, self, versions = linkVersions } = this.#options
    const { peerId } = credentials.identity
    return {
      credentials,
      versions,
      hello: { versions, capabilities: this.#capabilities, ...self, peerId, session: this.#session, kind },
      refusalOf: (hello) => this.#refusalOf(hello, path),
    }
  }

  get #capabilities(): readonly string[] {
    const { capabilities = linkCapabilities, resumeMs } = this.#options
    return capabilities.filter((capability) => capability !== 'resume' || resumeMs > 0)
  }

  #refusalOf({ name, peerId, kind, session }: Hello, path: string): string | undefined {
    const conflict = this.#options.nameConflictOf(name, peerId)
    if (conflict !== undefined) return conflict
    const known = this.#peers.get(peerId)
    const links = known?.session === session ? [...known.links].filter(isLike({ kind, path })) : []
    const isFull = links.length >= maxLinks[kind] && !makeRoom(links)
    return isFull ? fullText(links.length, kind) : undefined
  }

  #add(secured: TLSSocket, origin: LinkOrigin): Link {
    const { agreed, kind, path } = origin
    if (this.#isClosed) throw new Error('this node stops')
    const peer = this.#peerOf(agreed.hello)
    const link = new Link(secured, origin, peer)
    peer.add(link)
    this.#options.logger.debug({ peer: agreed.hello.name, path, count: peer.links.size }, `${kind} link stands`)
    this.#options.onChange()
    return link
  }

  #peerOf({ peerId, session, name, capabilities }: Hello): PeerLinks {
    const known = this.#peers.get(peerId)
    if (known?.session === session) return known
    known?.close(new Error(`${name} has restarted`))
    const { credentials, onIncoming, onWant, resumeMs } = this.#options
    const canResume = [capabilities, this.#capabilities].every((ours) => ours.includes('resume'))
    const peer = new PeerLinks({
      peerId,
      session,
      hasOddFlows: credentials.identity.peerId < peerId,
      budget: this.#budget,
      onIncoming: (flow, path) => onIncoming(flow, { peerId, path }),
      onWant: (kind) => onWant(peerId, kind),
      onLost: (link, error) => this.#onLost(peer, link, error),
      onResumed: () => this.#resumed.add(1),
      onOver: () => this.#forget(peer),
      resumeMs: canResume ? resumeMs : 0,
      isDoubted: (link) => this.#options.isDoubted?.(link) ?? false,
      distanceOf: (link) => this.#options.distanceOf?.(link) ?? 0,
    })
    this.#peers.set(peerId, peer)
    return peer
  }

  #onLost(peer: PeerLinks, link: Link, error: Error): void {
    const { name } = link.agreed.hello
    this.#options.logger.debug({ peer: name, path: link.path, error }, `${link.kind} link ended`)
    if (peer.isStranded && !this.#isClosed) this.#options.onStranded(peer.peerId)
    else if (peer.isOver) this.#forget(peer)
    this.#options.onChange()
  }

  #forget(peer: PeerLinks): void {
    if (this.#peers.get(peer.peerId) === peer) this.#peers.delete(peer.peerId)
  }

  #noteFailure(end: 'client' | 'server', peer: string, path: string, error: unknown): void {
    this.#failed.add(1, { end })
    const { logger } = this.#options
    if (!(error instanceof HelloError) || isFullness(error)) {
      logger.debug({ peer, path, error: describeError(error) }, 'no link')
      return
    }
    if (!this.#seldom.isDue(peer)) return
    const remedy = error.isKeyMismatch ? { remedy: preSharedKeyRemedy } : {}
    const text = error.isKeyMismatch ? 'link refused: pre-shared key mismatch' : 'link refused'
    logger.warn({ peer, path, error, ...remedy }, text)
  }
}

function fullText(count: number, kind: LinkKind): string {
  return `there are ${count} ${kind} links already`
}

/** Both ends have made links at the same time, or one of them does not know yet that it has lost some. */
function isFullness({ message }: HelloError): boolean {
  return /^there are \d+ \w+ links already$/.test(message)
}

/** A direct link is never one too many because of relayed ones: it takes their place. */
function isLike({ kind, path }: Pick<Link, 'kind' | 'path'>): (link: Link) => boolean {
  return (link) => link.kind === kind && link.isDirect === isDirectPath(path)
}

/** Ends the link that is silent for longest, if it may be dead. */
function makeRoom(links: readonly Link[]): boolean {
  const nowMs = performance.now()
  const [longest] = links
    .filter(({ lastHeardMs, flows }) => nowMs - lastHeardMs > (flows > 0 ? silentWithFlowsMs : silentMs))
    .sort((left, right) => left.lastHeardMs - right.lastHeardMs)
  longest?.abandon(new Error('it is silent, and the peer makes another one'))
  return longest !== undefined
}

/** Resets a connection; libuv refuses that while the TLS socket on it is being shut down, and would leak the handle. */
function resetUnder(secured: TLSSocket | undefined, socket: TcpSocket): void {
  if (secured?.writableEnded) socket.destroy()
  else resetStream(socket, new Error('no link'))
}
