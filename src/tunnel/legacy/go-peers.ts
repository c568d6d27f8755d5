import type { InterfaceAddress } from '../../linux/index.ts'
import { type ByteStream, resetStream } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import type { FlowAcceptor } from '../flows/flow-acceptor.ts'
import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import { deriveIdentity } from '../identity/derived-key.ts'
import { directAddressesOf } from '../paths/direct-addresses.ts'
import type { DhtPeer } from './dht-messages.ts'
import { answerNames, discoveryProtocol, exchangeNames, type FoundBy } from './discovery.ts'
import { proxyMessages, proxyProtocol } from './proxy-handshake.ts'

/** What meeting nodes of the Go system needs. */
export interface GoPeersOptions {
  /** How the Go system calls this node: a gateway's name ends in `-gateway`. */
  readonly ownName: string
  readonly host: Host
  readonly tasks: TaskGroup
  /** Of this node and its LAN neighbours. */
  readonly interfaceAddresses: () => readonly InterfaceAddress[]
  readonly logger: Logger
}

/** A peer to be met. */
interface Found {
  readonly peerId: string
  readonly foundBy: FoundBy
  /** Multiaddresses to be tried one after the other, with the peer's identity at the end. */
  readonly ways: readonly string[]
}

/** Who serves the flows of nodes of the Go system. */
export interface FlowService {
  readonly acceptor: FlowAcceptor
  /** Streams that one connection may carry. */
  readonly maxStreams: number
  /** How a connection travels, for logs. */
  describe(connection: PeerConnection): string
}

const handshakeTimeoutMs = 5000
const dialTimeoutMs = 3000

/** Peers that are met at the same time; a relay may know hundreds. */
const maxMeeting = 4

/** A connection through a relay that is made for the names alone ends after this, unless it is used. */
const lingerMs = 1000

/** Of its protocol, for people. */
const limits =
  'agent of the Go system: no half-close, no reasons for failures; datagrams of up to 4096 bytes, answered within 1 s'

/** More found peers than a LAN has; keeps a stranger with the key from filling our memory. */
const maxKnown = 4096

/**
 * Nodes of the Go system in a mesh of derived identities: who they are follows from their names, those in the LAN are
 * found by mDNS, all others are reached through relays. Serves the flows that they open.
 */
export class GoPeers {
  /** The protocol of flows to them, and its messages. */
  readonly protocol = proxyProtocol
  readonly messages = proxyMessages
  readonly #options: GoPeersOptions
  /** Names that were told or asked for, and the identities that follow from them. */
  readonly #identities = new Map<string, string>()
  readonly #names = new Map<string, string>()
  readonly #meeting = new Set<string>()
  readonly #waiting = new Map<string, Found>()
  readonly #spoken = new Set<string>()

  constructor(options: GoPeersOptions) {
    this.#options = options
  }

  /** Takes their streams; to be said before the host listens. */
  async handle({ acceptor, maxStreams, describe }: FlowService): Promise<void> {
    const { host } = this.#options
    await host.handle({
      protocol: proxyProtocol,
      maxStreams,
      onStream: (stream, from) => {
        this.noteSpoken(from.peerId)
        acceptor.acceptStream(stream, { peerId: from.peerId, path: describe(from) }, proxyMessages)
      },
    })
    await host.handle({
      protocol: discoveryProtocol,
      maxStreams: 16,
      onStream: (stream, from) => this.#answer(stream, from),
    })
  }

  /** Meets the peers that are found in the LAN, until disposed. */
  meetFound(): Disposable {
    return this.#options.host.onFound((peerId, addresses) => {
      if (this.#isDirect(peerId)) return
      this.#meet({ peerId, foundBy: 'MDNS', ways: addresses.map((address) => `${address}/p2p/${peerId}`) })
    })
  }

  /** Meets a node that a relay knows: directly where one of its addresses promises that, else once through the relay. */
  meetThrough({ peerId, addresses }: DhtPeer, relayPeerId: string): void {
    const { host, interfaceAddresses } = this.#options
    const direct = this.#isDirect(peerId) ? [] : directAddressesOf(addresses, interfaceAddresses(), host.announced())
    const ways = direct.map(({ multiaddress }) => `${multiaddress}/p2p/${peerId}`)
    const [relay] = host.connectionsTo(relayPeerId)
    if (!this.#names.has(peerId) && relay !== undefined) {
      ways.push(`${relay.address.replace(/\/p2p\/.*/, '')}/p2p/${relayPeerId}/p2p-circuit/p2p/${peerId}`)
    }
    if (ways.length > 0) this.#meet({ peerId, foundBy: 'DHT', ways })
  }

  /** The identity that a node of this name has. */
  async identityOf(name: string): Promise<string> {
    const known = this.#identities.get(name)
    if (known !== undefined) return known
    const { peerId } = await deriveIdentity(name)
    if (this.#identities.size >= maxKnown) this.#identities.clear()
    this.#identities.set(name, peerId)
    return peerId
  }

  /** Every node that flows have gone to, or that has told its name. */
  get known(): readonly { readonly name: string; readonly peerId: string }[] {
    return [...this.#identities].map(([name, peerId]) => ({ name, peerId }))
  }

  /** The name that a peer has told, and that its identity follows from. */
  nameOf(peerId: string): string | undefined {
    return this.#names.get(peerId)
  }

  noteSpoken(peerId: string): void {
    if (this.#spoken.size >= maxKnown) this.#spoken.clear()
    this.#spoken.add(peerId)
  }

  /** What flows to or from the peer lack; undefined unless it was seen to run the agent of the Go system. */
  limitsOf(peerId: string): string | undefined {
    return this.#spoken.has(peerId) ? limits : undefined
  }

  #answer(stream: ByteStream, from: PeerConnection): void {
    const { tasks, ownName } = this.#options
    tasks.run('names for a peer of the Go system', async (stopping) => {
      using limit = new TimeLimit(handshakeTimeoutMs, stopping)
      try {
        const name = await answerNames(stream, ownName, limit.signal)
        if (name !== undefined) await this.#learn(name, from)
      } catch (error) {
        this.#options.logger.debug({ peer: from.peerId, error }, 'names not exchanged')
        resetStream(stream, error instanceof Error ? error : new Error(String(error)))
      }
    })
  }

  #isDirect(peerId: string): boolean {
    return this.#options.host.connectionsTo(peerId).some(isDirect)
  }

  #meet(found: Found): void {
    const { peerId } = found
    if (peerId === this.#options.host.peerId || this.#meeting.has(peerId)) return
    if (this.#meeting.size >= maxMeeting) {
      if (this.#waiting.size < maxKnown) this.#waiting.set(peerId, found)
      return
    }
    this.#meeting.add(peerId)
    this.#options.tasks.run('peer that was found', async (stopping) => {
      try {
        await this.#connect(found, stopping)
      } catch (error) {
        this.#options.logger.debug({ peer: peerId, error }, 'found peer not met')
      } finally {
        this.#meeting.delete(peerId)
        this.#meetNext()
      }
    })
  }

  #meetNext(): void {
    for (const [peerId, next] of this.#waiting) {
      this.#waiting.delete(peerId)
      this.#meet(next)
      return
    }
  }

  async #connect({ peerId, foundBy, ways }: Found, stopping: AbortSignal): Promise<void> {
    const { host, ownName } = this.#options
    const failures: string[] = []
    for (const way of ways) {
      using limit = new TimeLimit(dialTimeoutMs, stopping)
      try {
        const connection = await host.dial(way, limit.signal)
        const stream = await connection.openStream(discoveryProtocol, limit.signal)
        await this.#learn(await exchangeNames(stream, foundBy, ownName, limit.signal), connection)
        this.#endUnused(connection)
        return
      } catch (error) {
        stopping.throwIfAborted()
        failures.push(describeError(error))
      }
    }
    throw new Error(`Cannot connect to ${peerId}: ${failures.join('; ')}`)
  }

  /** Flows find their way through relays by themselves, and a hundred idle connections would be of no use. */
  #endUnused(connection: PeerConnection): void {
    if (isDirect(connection)) return
    this.#options.tasks.run('connection for names', async (stopping) => {
      await sleep(lingerMs, stopping)
      if (!connection.isBusy) connection.abort(new Error('names are exchanged'))
    })
  }

  async #learn(name: string, { peerId, address }: PeerConnection): Promise<void> {
    const { logger } = this.#options
    if ((await this.identityOf(name)) !== peerId) {
      logger.warn({ peer: peerId, node: name }, 'peer ignored: its identity does not follow from the name it gives')
      return
    }
    if (this.#names.get(peerId) !== name) logger.info({ peer: name, address }, 'peer has told its name')
    if (this.#names.size >= maxKnown) this.#names.clear()
    this.#names.set(peerId, name)
  }
}
