import type { InterfaceAddress } from '../../linux/index.ts'
import type { DialError } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { abortable, TimeLimit } from '../../runtime/index.ts'
import type { Carrier, CarrierSource } from '../flows/carrier.ts'
import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import { LastErrors } from '../last-errors.ts'
import type { Link } from '../links/link.ts'
import type { RelayWay } from '../links/link-connector.ts'
import type { NameRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { LinkFacts, PeerPath, PingAnswer } from '../tunnel.ts'
import { Changes } from './changes.ts'
import type { DirectConnector } from './direct-connector.ts'
import { createHedgedCarrier } from './hedged-carrier.ts'
import { LinkCarriers, type OverLink, type Way } from './link-carriers.ts'
import { linkFactsOf } from './link-facts.ts'
import { carrierBeside, type LinkSource } from './link-source.ts'
import { noPathTo } from './no-path.ts'
import { directNameOf, PathNames, relayNameOf } from './path-names.ts'
import type { PathPolicy } from './path-policy.ts'
import { hedgeMs, RelayChoice, type RelayLink } from './relay-choice.ts'
import { RelayedConnections, type WantedPeer } from './relayed-connections.ts'
import { relaysFor } from './relays-for.ts'
import type { Strangers } from './strangers.ts'
import { StreamCarriers } from './stream-carriers.ts'
import { Suspects } from './suspects.ts'

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
  /** Told of each flow that is asked for on a libp2p stream, where it stays. */
  onStream?(to: 'edgemesh' | 'go'): void
}

/** While flows come, more or better links to a peer are asked for this often. */
const wantAgainMs = 100

/** With so many direct links to a peer, flows ask for no more. */
const enoughLinks = 2

/** Longer than each attempt to connect takes. */
const pathTimeoutMs = 10_000

/** Where relays carry no flows, these wait for a hole to be punched. */
const directPatienceMs = 7000

/** A flow that waits for a path looks again at least this often. */
const retryMs = 250

/**
 * Chooses how to reach a peer now: a direct connection that stands, a relayed one that stands, a new one through a server
 * that knows the peer, and only without any of these a direct attempt that the flow waits for.
 */
export class PeerPaths implements CarrierSource {
  readonly names: PathNames
  readonly #options: PeerPathsOptions
  readonly #relays: RelayChoice
  readonly #relayed: RelayedConnections
  readonly #suspects = new Suspects()
  readonly #overLinks = new LinkCarriers(({ nodeName, link, relay }, plain) =>
    this.#hedge(nodeName, plain, { way: link, relay, probe: () => link.probe() }),
  )
  readonly #streams: StreamCarriers
  readonly #lastErrors = new LastErrors()
  readonly #changes = new Changes()
  #links: LinkSource | undefined

  constructor(options: PeerPathsOptions) {
    this.#options = options
    this.#relays = new RelayChoice(options.links)
    this.names = new PathNames(options.interfaceAddresses, this.#relays)
    this.#streams = new StreamCarriers({ ...options, names: this.names })
    this.#relayed = new RelayedConnections({ ...options, relays: this.#relays })
  }

  /** Something changed: records, presence, or connections; those who wait look again. */
  changed(): void {
    this.#changes.tell()
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
      const way = await this.#wayTo(nodeName, signal)
      if (way !== undefined) {
        this.#lastErrors.forget(nodeName)
        return way
      }
      if (performance.now() >= patientUntil) throw this.#noPath(nodeName)
      await this.#changes.next(retryMs, signal)
    }
  }

  /** A link if one stands or comes in time: what begins on one moves to better paths and outlives lost ones. */
  async #wayTo(nodeName: string, signal: AbortSignal): Promise<Carrier | undefined> {
    const peerId = this.#options.book.recordOf(nodeName)?.record.peerId
    // A relay joins two nodes sooner than a connection through it is made.
    const linked = await this.#linkWithin(nodeName, this.#relays.headStartMs(nodeName), signal)
    if (linked !== undefined) return linked
    const found = await this.#connectionOrLink(nodeName, signal)
    if (found === undefined || 'open' in found) return found
    if (peerId !== undefined) this.#links?.want(peerId)
    return this.#isAllowed(found) ? await this.#alongWith(found, nodeName, signal) : undefined
  }

  async #connectionOrLink(nodeName: string, signal: AbortSignal): Promise<PeerConnection | Carrier | undefined> {
    const done = new AbortController()
    using racing = new TimeLimit(pathTimeoutMs, signal, done.signal)
    try {
      return await Promise.race([
        this.#connectionTo(nodeName, racing.signal),
        this.#untilLinked(nodeName, racing.signal),
      ])
    } finally {
      done.abort()
    }
  }

  async #untilLinked(nodeName: string, signal: AbortSignal): Promise<Carrier> {
    for (;;) {
      const linked = this.#linkedTo(nodeName, true)
      if (linked !== undefined) return linked
      await this.#changes.next(retryMs, signal)
    }
  }

  /** The first link, if it comes while there is hope for one and within the limit. */
  async #linkWithin(nodeName: string, limitMs: number, signal: AbortSignal): Promise<Carrier | undefined> {
    const untilMs = performance.now() + limitMs
    for (let hasWanted = false; ; hasWanted = true) {
      const linked = this.#linkedTo(nodeName, hasWanted)
      const peerId = this.#options.book.recordOf(nodeName)?.record.peerId
      if (linked !== undefined || this.#links === undefined || peerId === undefined) return linked
      this.#links.want(peerId)
      const leftMs = Math.min(this.#links.hopeMs(peerId), untilMs - performance.now(), retryMs)
      if (leftMs <= 0) return undefined
      await this.#changes.next(leftMs, signal)
    }
  }

  /** The connection, when no link comes along it: those of the Go system have none. */
  async #alongWith(connection: PeerConnection, nodeName: string, signal: AbortSignal): Promise<Carrier> {
    const linked = await this.#linkWithin(nodeName, Number.POSITIVE_INFINITY, signal)
    if (linked !== undefined) return linked
    // Agreeing on a protocol takes an answer, which is a sign of life.
    const way = { way: connection, relay: connection.relayPeerId, probe: () => {} }
    const carrier = this.#streams.of(connection)
    return this.#isHedged(way.relay) ? this.#hedge(nodeName, carrier, way) : carrier
  }

  reportBroken(carrier: Carrier, error: unknown): void {
    const connection = this.#streams.connectionOf(carrier)
    if (connection === undefined) return
    this.#suspects.add(connection)
    const name = this.#options.book.nameOf(connection.peerId)
    if (name !== undefined) this.#lastErrors.note(name, describeError(error))
  }

  /** Nothing was heard on the link, or of its relay, while another way was. */
  isDoubted(link: Link): boolean {
    if (this.#suspects.has(link)) return true
    return this.#relays.hasSilent && !link.isDirect && this.#relays.isSilent(this.names.relayOf(link))
  }

  /** How far the relay of a link is: its round trip in milliseconds, and much more when that is not known. */
  distanceOf(link: Link): number {
    return this.#relays.costOf(this.names.relayOf(link))
  }

  /** Relays that may join the peer to us, best first. */
  relaysTo(peerId: string): RelayWay[] {
    const { book, host, policy } = this.#options
    if (!policy.allows('relayed')) return []
    const link = this.#links?.table.peer(peerId)?.best()
    const standing = [link && this.names.relayOf(link), this.bestConnectionTo(peerId)?.relayPeerId]
    return relaysFor({ name: book.nameOf(peerId), standing }, { host, relays: this.#relays }).map(
      ({ connection, patienceMs }) => ({ connection, patienceMs, path: this.names.ofRelay(connection.peerId) }),
    )
  }

  /** How flows to the peer would travel now. */
  pathOf(peerId: string): PeerPath {
    const connection = this.bestConnectionTo(peerId)
    const link = this.#links?.table.peer(peerId)?.best()
    // A peer that takes relayed paths alone may be connected directly, but not for flows.
    const isRelayed = link !== undefined && !link.isDirect && link.flows > 0
    if (connection !== undefined && isDirect(connection) && !isRelayed) {
      return { kind: this.names.ofDirect(connection), address: connection.address.replace(/\/p2p\/.*/, '') }
    }
    if (link?.isDirect) return { kind: directNameOf(link), address: link.address }
    if (link !== undefined) return { kind: 'relayed', via: relayNameOf(link) }
    if (connection === undefined) return { kind: 'none' }
    return { kind: 'relayed', via: this.#relays.nameOf(connection.relayPeerId) }
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
    const connection = this.bestConnectionTo(peerId)
    if (connection === undefined) throw this.#noPath(nodeName)
    await abortable(connection.probe(signal), signal)
    return { path: this.names.ofConnection(connection), carrier: 'libp2p', roundTripMs: performance.now() - startMs }
  }

  lastErrorOf(name: string): string | undefined {
    const known = this.#lastErrors.of(name) ?? this.#options.direct.lastErrorOf(name)
    const peerId = this.#options.book.recordOf(name)?.record.peerId
    return known ?? (peerId === undefined ? undefined : this.#links?.lastErrorOf(peerId))
  }

  /** Links if any stand; more and better ones are made where there are few, unless that has just been asked for. */
  #linkedTo(nodeName: string, hasWanted = false): Carrier | undefined {
    const peerId = this.#options.book.recordOf(nodeName)?.record.peerId
    if (this.#links === undefined || peerId === undefined) return undefined
    const peer = this.#links.table.peer(peerId)
    const link = peer?.best()
    if (peer === undefined || link === undefined) return undefined
    const relay = link.isDirect ? undefined : this.names.relayOf(link)
    const over = this.#overLinks.of({ nodeName, peer, link, relay })
    if (!link.isDirect || peer.links.size < enoughLinks) this.#improve(over, hasWanted)
    if (!this.#isUsable(link, nodeName)) return undefined
    return this.#isHedged(relay) ? over.hedged : over.plain
  }

  #improve(over: OverLink, hasWanted: boolean): void {
    const { nodeName, peer, link } = over.way
    if (performance.now() < over.nextWantMs) return
    over.nextWantMs = hasWanted ? 0 : performance.now() + wantAgainMs
    if (!hasWanted) this.#links?.want(peer.peerId)
    if (!link.isDirect) this.#stayConnected(nodeName, peer.peerId)
  }

  /** Over a connection through a relay both ends agree on a better path; it may be lost while a link stands. */
  #stayConnected(nodeName: string, peerId: string): void {
    const { host, policy } = this.#options
    if (!policy.seeksDirect || host.connectionsTo(peerId).length > 0) return
    const again = this.#relayed.another({ name: nodeName, peerId }, undefined)
    void again.then((made) => made && this.#links?.want(peerId))
  }

  #isUsable(link: Link, nodeName: string): boolean {
    if (this.#suspects.has(link) || !this.#options.policy.allows(link.path)) return false
    if (link.isDirect) return true
    // A link outlives the server that has joined it when that is no longer configured, but gets no new flows.
    const relay = this.names.relayOf(link)
    return relay !== undefined && !(this.#relays.isSilent(relay) && this.#relays.hasOther(nodeName, relay))
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
      alternative: () => this.#alternative({ name: nodeName, peerId: carrier.peerId }, relay),
      onSilent: () => {
        if (relay === undefined) this.#suspects.add(way)
        else this.#relays.noteSilent(relay)
        logger.info({ peer: nodeName, path: carrier.path }, 'path is silent; flows take another one')
      },
    })
    this.#streams.isAlso(hedged, carrier)
    return hedged
  }

  /** Through any relay but this one, which is silent. */
  async #alternative(peer: WantedPeer, relay: string | undefined): Promise<Carrier | undefined> {
    const links = this.#options.book.recordOf(peer.name) === undefined ? undefined : this.#links
    const linked = await carrierBeside(links, peer.peerId, relay)
    if (linked !== undefined) return linked
    const connection = await this.#relayed.another(peer, relay)
    // Who has just lost its relays is connected to one again by now.
    return connection && ((await carrierBeside(links, peer.peerId, relay)) ?? this.#streams.of(connection))
  }

  #isAllowed(connection: PeerConnection): boolean {
    return this.#options.policy.allows(this.names.ofConnection(connection))
  }

  async #connectionTo(nodeName: string, signal: AbortSignal): Promise<PeerConnection | undefined> {
    const record = this.#options.book.recordOf(nodeName)?.record
    const peer = record ?? (await this.#strangerOf(nodeName))
    if (peer === undefined) return undefined
    const standing = this.bestConnectionTo(peer.peerId)
    if (standing !== undefined) return standing
    const agreeing = this.#agreeingOver(peer.peerId)
    if (agreeing !== undefined) return agreeing
    const onFailure = (error: unknown) => this.#lastErrors.note(nodeName, describeError(error))
    const relayed = await abortable(this.#relayed.make({ name: nodeName, peerId: peer.peerId }, onFailure), signal)
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
      this.#lastErrors.note(nodeName, describeError(error))
      return undefined
    }
  }

  /** The connection that flows to the peer would use, were there no links. */
  bestConnectionTo(peerId: string): PeerConnection | undefined {
    const usable = this.#options.host
      .connectionsTo(peerId)
      .filter((connection) => !this.#suspects.has(connection) && this.#isAllowed(connection))
      .filter(({ relayPeerId }) => !this.#relays.isDoubted(relayPeerId))
    const relayed = usable.map((connection) => ({ connection, cost: this.#relays.costOf(connection.relayPeerId) }))
    return usable.find(isDirect) ?? relayed.sort((left, right) => left.cost - right.cost)[0]?.connection
  }

  #noPath(nodeName: string): DialError {
    return noPathTo(nodeName, { ...this.#options, relays: this.#relays, lastError: this.lastErrorOf(nodeName) })
  }
}
