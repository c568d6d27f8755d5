import type { InterfaceAddress } from '../../linux/index.ts'
import { DialError } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { abortable, TimeLimit } from '../../runtime/index.ts'
import { type Carrier, type CarrierSource, flowProtocol } from '../flows/carrier.ts'
import { createStreamCarrier } from '../flows/stream-carrier.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'
import type { NameRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { LinkFacts, PeerPath, PingAnswer } from '../tunnel.ts'
import { type DirectConnector, isDirect } from './direct-connector.ts'
import { DirectNames, directNameOf } from './direct-names.ts'
import { createHedgedCarrier } from './hedged-carrier.ts'
import { LinkCarriers, type Way } from './link-carriers.ts'
import { linkFactsOf } from './link-facts.ts'
import type { LinkSource } from './link-source.ts'
import type { PathPolicy } from './path-policy.ts'
import { hedgeMs, RelayChoice, type RelayLink, serversText } from './relay-choice.ts'
import { firstOf } from './staggered.ts'
import type { Strangers } from './strangers.ts'

/** What choosing paths needs. */
export interface PeerPathsOptions {
  readonly host: Host
  readonly book: RecordBook
  readonly links: readonly RelayLink[]
  readonly direct: DirectConnector
  readonly policy: PathPolicy
  /** Nodes of the Go system, which sign no records; absent where there are none. */
  readonly strangers?: Strangers | undefined
  /** Of this node and its LAN neighbours. */
  readonly interfaceAddresses: () => readonly InterfaceAddress[]
  readonly logger: Logger
  /** How long a flow waits for a node to become known or connected, before it fails. */
  readonly patienceMs: number
}

/** A connection on which a stream could not be opened is passed over for this long; its own probes end it if it is dead. */
const suspectMs = 10_000

/** While flows come, more or better links to a peer are asked for this often. */
const wantAgainMs = 100

/** With so many direct links to a peer, flows ask for no more. */
const enoughLinks = 2
const relayTimeoutMs = 5000

/** A link through a relay takes as many round trips as a connection; flows do not wait for one that takes longer. */
const linkPatienceMs = 1500

/** Where relays carry no flows, these wait for a hole to be punched. */
const directPatienceMs = 7000

/** A flow that waits for a path looks again at least this often. */
const retryMs = 250

/**
 * Chooses how to reach a peer now: a direct connection that stands, a relayed one that stands, a new one through a server
 * that knows the peer, and only without any of these a direct attempt that the flow waits for.
 */
export class PeerPaths implements CarrierSource {
  readonly #options: PeerPathsOptions
  readonly #relaying = new Map<string, Promise<PeerConnection>>()
  readonly #relays: RelayChoice
  readonly #suspects = new WeakMap<PeerConnection | Link, number>()
  readonly #overLinks = new LinkCarriers(({ nodeName, link, relay }, plain) =>
    this.#hedge(nodeName, plain, { way: link, relay, probe: () => link.probe() }),
  )
  readonly #connectionOf = new WeakMap<Carrier, PeerConnection>()
  readonly #lastErrors = new Map<string, string>()
  readonly #directNames: DirectNames
  readonly #waiting = new Set<() => void>()
  #links: LinkSource | undefined

  constructor(options: PeerPathsOptions) {
    this.#options = options
    this.#relays = new RelayChoice(options.links)
    this.#directNames = new DirectNames(options.interfaceAddresses)
  }

  /** Something changed: records, presence, or connections; those who wait look again. */
  changed(): void {
    for (const look of [...this.#waiting]) look()
  }

  /** From now on flows use links to peers where these stand. */
  useLinks(links: LinkSource): void {
    this.#links = links
  }

  standingTo(nodeName: string): Carrier | undefined {
    const { direct, policy } = this.#options
    if (policy.seeksDirect) direct.want(nodeName)
    return this.#linkedTo(nodeName)
  }

  async carrierTo(nodeName: string, signal: AbortSignal): Promise<Carrier> {
    const { direct, policy, patienceMs } = this.#options
    if (policy.seeksDirect) direct.want(nodeName)
    const patientUntil = performance.now() + (policy.allows('relayed') ? patienceMs : directPatienceMs)
    for (;;) {
      const linked = this.#linkedTo(nodeName)
      if (linked !== undefined) return linked
      const connection = await this.#connectionTo(nodeName, signal)
      if (connection !== undefined) {
        this.#links?.want(connection.peerId)
        if (this.#isAllowed(connection)) return await this.#alongWith(connection, nodeName, signal)
      }
      signal.throwIfAborted()
      if (performance.now() >= patientUntil) throw this.#noPath(nodeName)
      using pause = new TimeLimit(retryMs, signal)
      await this.#untilChanged(pause.signal)
    }
  }

  /** The first link along a connection when that comes soon, else the connection: a flow stays where it begins. */
  async #alongWith(connection: PeerConnection, nodeName: string, signal: AbortSignal): Promise<Carrier> {
    const isNear = this.#relays.patienceMs(connection.relayPeerId) <= linkPatienceMs
    if (isNear) await this.#links?.attemptSettled(connection.peerId, signal)
    const linked = this.#linkedTo(nodeName)
    if (linked !== undefined) return linked
    // Agreeing on a protocol takes an answer, which is a sign of life.
    const way = { way: connection, relay: connection.relayPeerId, probe: () => {} }
    const carrier = this.#carrierOf(connection)
    return this.#isHedged(way.relay) ? this.#hedge(nodeName, carrier, way) : carrier
  }

  reportBroken(carrier: Carrier, error: unknown): void {
    const connection = this.#connectionOf.get(carrier)
    if (connection === undefined) return
    this.#suspects.set(connection, performance.now() + suspectMs)
    const name = this.#options.book.nameOf(connection.peerId)
    if (name !== undefined) this.#lastErrors.set(name, describeError(error))
  }

  /** The connection that flows to the peer would use, were there no links. */
  bestConnectionTo(peerId: string): PeerConnection | undefined {
    return this.#best(peerId)
  }

  /** How flows to the peer would travel now. */
  pathOf(peerId: string): PeerPath {
    const connection = this.#best(peerId)
    if (connection !== undefined && isDirect(connection)) {
      return { kind: this.#directNames.ofConnection(connection), address: connection.address.replace(/\/p2p\/.*/, '') }
    }
    const link = this.#links?.table.peer(peerId)?.best()
    if (link?.isDirect) return { kind: directNameOf(link), address: link.address }
    if (connection !== undefined) return { kind: 'relayed', via: this.#relays.nameOf(connection.relayPeerId) }
    return link === undefined ? { kind: 'none' } : { kind: 'relayed', via: link.path.replace('relayed via ', '') }
  }

  /** How a connection travels, for logs. */
  describe(connection: PeerConnection): string {
    return connection.relayPeerId === undefined
      ? this.#directNames.ofConnection(connection)
      : this.describeRelayed(connection.relayPeerId)
  }

  /** How a peer that has connected to us from this IP address travels. */
  describeDirect(address: string): string {
    return this.#directNames.ofAddress(address)
  }

  /** How what this relay joins travels, for logs. */
  describeRelayed(relayPeerId: string): string {
    return `relayed via ${this.#relays.nameOf(relayPeerId)}`
  }

  /** The relay that has joined a link; undefined for a direct one, and when it is no longer configured. */
  relayOf({ path }: Pick<Link, 'path'>): string | undefined {
    return this.#relays.named(path.replace('relayed via ', ''))
  }

  /** What is known of the links to the peer; undefined without any. */
  linkFactsOf(peerId: string): LinkFacts | undefined {
    const peer = this.#links?.table.peer(peerId)
    return peer === undefined ? undefined : linkFactsOf(peer)
  }

  /** Measures the round trip to a node as flows would travel now; makes links come, as flows do. */
  async ping(nodeName: string, signal: AbortSignal): Promise<PingAnswer> {
    const { peerId, path } = await this.carrierTo(nodeName, signal)
    const startMs = performance.now()
    const link = this.#links?.table.peer(peerId)?.best()
    if (link?.path === path) {
      const roundTripMs = await abortable(link.ping(), signal)
      if (roundTripMs !== undefined) return { path, carrier: 'link', roundTripMs }
    }
    const connection = this.#best(peerId)
    if (connection === undefined) throw this.#noPath(nodeName)
    await abortable(connection.probe(signal), signal)
    return { path: this.describe(connection), carrier: 'libp2p', roundTripMs: performance.now() - startMs }
  }

  lastErrorOf(name: string): string | undefined {
    const known = this.#lastErrors.get(name) ?? this.#options.direct.lastErrorOf(name)
    const peerId = this.#options.book.recordOf(name)?.record.peerId
    return known ?? (peerId === undefined ? undefined : this.#links?.lastErrorOf(peerId))
  }

  /** Links if any stand on the best path; more are made where there are few. */
  #linkedTo(nodeName: string): Carrier | undefined {
    const peerId = this.#options.book.recordOf(nodeName)?.record.peerId
    if (this.#links === undefined || peerId === undefined) return undefined
    const peer = this.#links.table.peer(peerId)
    const link = peer?.best()
    if (peer === undefined || link === undefined) return undefined
    const relay = link.isDirect ? undefined : this.relayOf(link)
    const over = this.#overLinks.of({ nodeName, peer, link, relay })
    if ((!link.isDirect || peer.links.size < enoughLinks) && performance.now() >= over.nextWantMs) {
      over.nextWantMs = performance.now() + wantAgainMs
      this.#links.want(peerId)
      if (!link.isDirect) this.#stayConnected(nodeName, peerId)
    }
    if (!this.#isUsable(link, peerId)) return undefined
    return this.#isHedged(relay) ? over.hedged : over.plain
  }

  /** Over a connection through a relay both ends agree on a better path; it may be lost while a link stands. */
  #stayConnected(nodeName: string, peerId: string): void {
    const { host, policy } = this.#options
    if (!policy.seeksDirect || host.connectionsTo(peerId).length > 0) return
    void this.#throughOther(nodeName, peerId, undefined).then((made) => made && this.#links?.want(peerId))
  }

  #isUsable(link: Link, peerId: string): boolean {
    if (this.#isSuspect(link) || !this.#options.policy.allows(link.path)) return false
    if (link.isDirect) return true
    const relay = this.relayOf(link)
    // A link outlives the server that has joined it when that is no longer configured, but gets no new flows.
    if (relay === undefined || this.#relays.isSilent(relay)) return false
    const connections = this.#options.host.connectionsTo(peerId)
    return !connections.some((each) => isDirect(each) && !this.#isSuspect(each) && this.#isAllowed(each))
  }

  /** Flows that meet with silence on this way are opened through a relay, or another one, as well. */
  #isHedged(relay: string | undefined): boolean {
    const { links, policy } = this.#options
    return links.some(({ isUp, peerId }) => isUp && peerId !== relay) && policy.allows('relayed')
  }

  #hedge(nodeName: string, carrier: Carrier, { way, relay, probe }: Way): Carrier {
    const { logger } = this.#options
    const hedged = createHedgedCarrier(carrier, {
      afterMs: () =>
        'roundTripMs' in way && way.roundTripMs !== undefined
          ? Math.max(hedgeMs, 2 * way.roundTripMs)
          : this.#relays.patienceMs(relay),
      lastHeardMs: () => way.lastHeardMs,
      probe,
      alternative: async () => {
        const connection = await this.#throughOther(nodeName, carrier.peerId, relay)
        return connection && this.#carrierOf(connection)
      },
      onSilent: () => {
        if (relay === undefined) this.#suspects.set(way, performance.now() + suspectMs)
        else this.#relays.noteSilent(relay)
        logger.info({ peer: nodeName, path: carrier.path }, 'path is silent; flows take another one')
      },
    })
    const connection = this.#connectionOf.get(carrier)
    if (connection !== undefined) this.#connectionOf.set(hedged, connection)
    return hedged
  }

  /** A connection through any relay but this one, standing or new. */
  async #throughOther(name: string, peerId: string, relay: string | undefined): Promise<PeerConnection | undefined> {
    const standing = this.#options.host.connectionsTo(peerId)
    const begin = async (link: RelayLink) =>
      standing.find(({ relayPeerId }) => relayPeerId === link.peerId) ?? (await this.#relayed({ name, peerId }, link))
    return await firstOf(this.#relays.attempts(name, begin, relay), () => {})
  }

  #isSuspect(way: PeerConnection | Link): boolean {
    return (this.#suspects.get(way) ?? 0) >= performance.now()
  }

  #isAllowed(connection: PeerConnection): boolean {
    return this.#options.policy.allows(this.describe(connection))
  }

  async #connectionTo(nodeName: string, signal: AbortSignal): Promise<PeerConnection | undefined> {
    const record = this.#options.book.recordOf(nodeName)?.record
    const peer = record ?? (await this.#strangerOf(nodeName))
    if (peer === undefined) return undefined
    const standing = this.#best(peer.peerId)
    if (standing !== undefined) return standing
    const agreeing = this.#agreeingOver(peer.peerId)
    if (agreeing !== undefined) return agreeing
    const attempts = this.#relays.attempts(nodeName, (link) => this.#relayed(peer, link))
    const onFailure = (error: unknown) => void this.#lastErrors.set(nodeName, describeError(error))
    const relayed = await abortable(firstOf(attempts, onFailure), signal)
    if (relayed !== undefined) return relayed
    const { direct: connector, policy } = this.#options
    const direct = record === undefined || !policy.seeksDirect ? undefined : connector.connect(record)
    return direct === undefined ? undefined : await this.#outcome(nodeName, direct, signal)
  }

  /** Where relays carry no flows: the relayed connection over which both ends agree to punch a hole. */
  #agreeingOver(peerId: string): PeerConnection | undefined {
    if (this.#options.policy.allows('relayed')) return undefined
    return this.#options.host.connectionsTo(peerId).find((connection) => !isDirect(connection))
  }

  async #strangerOf(name: string): Promise<Pick<NameRecord, 'name' | 'peerId'> | undefined> {
    const { strangers } = this.#options
    return strangers === undefined ? undefined : { name, peerId: await strangers.identityOf(name) }
  }

  async #outcome(
    nodeName: string,
    attempt: Promise<PeerConnection>,
    signal: AbortSignal,
  ): Promise<PeerConnection | undefined> {
    try {
      return await abortable(attempt, signal)
    } catch (error) {
      signal.throwIfAborted()
      this.#lastErrors.set(nodeName, describeError(error))
      return undefined
    }
  }

  #best(peerId: string): PeerConnection | undefined {
    const usable = this.#options.host
      .connectionsTo(peerId)
      .filter((connection) => !this.#isSuspect(connection) && this.#isAllowed(connection))
    const relayed = usable.map((connection) => ({ connection, cost: this.#relays.costOf(connection.relayPeerId) }))
    return usable.find(isDirect) ?? relayed.sort((left, right) => left.cost - right.cost)[0]?.connection
  }

  /** One attempt per peer and relay at a time, shared by all flows that need it. */
  #relayed({ name, peerId }: Pick<NameRecord, 'name' | 'peerId'>, link: RelayLink): Promise<PeerConnection> {
    const key = `${link.address.text} ${peerId}`
    const running = this.#relaying.get(key)
    if (running !== undefined) return running
    const address = `${link.address.multiaddress}/p2p/${link.peerId}/p2p-circuit/p2p/${peerId}`
    const attempt = this.#options.host.dial(address, AbortSignal.timeout(relayTimeoutMs))
    this.#relaying.set(key, attempt)
    attempt
      .then(
        () => this.#options.logger.info({ peer: name, path: `relayed via ${link.address.text}` }, 'peer connected'),
        (error: unknown) => this.#options.logger.debug({ peer: name, error }, 'no relayed connection'),
      )
      .finally(() => this.#relaying.delete(key))
    return attempt
  }

  #carrierOf(connection: PeerConnection): Carrier {
    const { strangers } = this.#options
    const protocols = strangers === undefined ? flowProtocol : [flowProtocol, strangers.protocol]
    const { peerId } = connection
    const place = { peerId, path: this.describe(connection) }
    const carrier = createStreamCarrier(place, async (signal) => {
      const stream = await connection.openStream(protocols, signal)
      if (strangers === undefined || stream.protocol !== strangers.protocol) return { stream }
      strangers.noteSpoken(peerId)
      return { stream, messages: strangers.messages }
    })
    this.#connectionOf.set(carrier, connection)
    return carrier
  }

  /** Says what is missing, nearest cause first. */
  #noPath(nodeName: string): DialError {
    const { book, links } = this.#options
    if (book.isRevokedName(nodeName)) return new DialError('forbidden', `Cannot reach ${nodeName}: it is revoked here`)
    const isServed = links.some(({ isUp }) => isUp)
    const servers = isServed ? '' : `; ${serversText(links)}`
    if (book.recordOf(nodeName) === undefined && this.#options.strangers === undefined) {
      return new DialError('no-path', `Cannot reach ${nodeName}: no node of this name has joined the mesh${servers}`)
    }
    const lastError = this.lastErrorOf(nodeName)
    const last = lastError === undefined ? '' : `; last attempt: ${lastError}`
    const relayed = this.#options.policy.allows('relayed')
      ? this.#relays.whyNot(nodeName)
      : 'there is no direct path, and paths.directOnly forbids others'
    const what = isServed ? relayed : 'it is no neighbour that answers'
    return new DialError('no-path', `Cannot reach ${nodeName}: ${what}${servers}${last}`)
  }

  #untilChanged(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        this.#waiting.delete(look)
        signal.removeEventListener('abort', look)
        resolve()
      }
      this.#waiting.add(look)
      signal.addEventListener('abort', look, { once: true })
      if (signal.aborted) look()
    })
  }
}
