import { resetStream } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import type { TunnelConfig } from '../config.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import {
  type DhtPeer,
  dhtProtocols,
  dhtTypes,
  readDhtMessage,
  rendezvousKeyOf,
  writeDhtMessage,
} from './dht-messages.ts'

/** What meeting at relays needs. */
export interface RendezvousOptions {
  readonly host: Pick<Host, 'peerId' | 'announced' | 'connectionsTo'>
  /** The name under which the nodes of a mesh find each other. */
  readonly rendezvous: string
  /** Peer IDs of the relays that are connected now. */
  relays(): readonly string[]
  /** Told of each node that a relay knows, again and again. */
  onFound(peer: DhtPeer, relayPeerId: string): void
  readonly tasks: TaskGroup
  readonly logger: Logger
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
  /** Default `sleep`. */
  readonly pause?: typeof sleep
}

/** What is known of one connection to a relay. */
interface Asked {
  times: number
  nextMs: number
  isRunning: boolean
}

const lookMs = 1000

/** Nodes that start together find each other in a moment; those of the Go system are reached a minute or two after that. */
const againMs = [10_000, 30_000, 60_000, 120_000, 300_000]

/** A table of 100 nodes is some 40 kB. */
const seldomMs = 30 * 60_000
const exchangeTimeoutMs = 10_000

/** Under which name the nodes of a mesh of derived identities find each other; undefined in other meshes. */
export function rendezvousOf({ identity, rendezvous }: TunnelConfig): string | undefined {
  return identity === 'derived' ? rendezvous : undefined
}

/**
 * Finds nodes that no multicast reaches, as agents of the Go system do: each tells the relays that it belongs to the
 * rendezvous, and asks them who else does. Only relays are asked: they are the only ones that the Go system's agents
 * behind NATs have in their tables.
 */
export class Rendezvous {
  readonly #options: RendezvousOptions
  readonly #nowMs: () => number
  readonly #asked = new WeakMap<PeerConnection, Asked>()
  readonly #key: Buffer

  constructor(options: RendezvousOptions) {
    const { nowMs = () => performance.now() } = options
    this.#options = options
    this.#nowMs = nowMs
    this.#key = rendezvousKeyOf(options.rendezvous)
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { pause = sleep } = this.#options
    while (!signal.aborted) {
      this.#look()
      await pause(lookMs, signal)
    }
  }

  #look(): void {
    const { host, relays, tasks } = this.#options
    for (const connection of relays().flatMap((relay) => host.connectionsTo(relay).slice(0, 1))) {
      const asked = this.#asked.get(connection) ?? { times: 0, nextMs: 0, isRunning: false }
      this.#asked.set(connection, asked)
      if (asked.isRunning || this.#nowMs() < asked.nextMs) continue
      asked.isRunning = true
      tasks.run('rendezvous', async (signal) => {
        await this.#askAll(connection, signal)
        asked.isRunning = false
        asked.nextMs = this.#nowMs() + (againMs[asked.times] ?? seldomMs)
        asked.times += 1
      })
    }
  }

  async #askAll(connection: PeerConnection, signal: AbortSignal): Promise<void> {
    const found = new Map<string, DhtPeer>()
    for (const protocol of dhtProtocols) {
      try {
        for (const peer of await this.#ask(connection, protocol, signal)) found.set(peer.peerId, peer)
      } catch (error) {
        signal.throwIfAborted()
        // A relay of ours that serves no rendezvous, or one that goes.
        this.#options.logger.debug({ peer: connection.peerId, error: describeError(error) }, 'rendezvous not asked')
      }
    }
    found.delete(this.#options.host.peerId)
    for (const peer of found.values()) this.#options.onFound(peer, connection.peerId)
  }

  /** Tells of this node, and gives those that the relay knows. */
  async #ask(connection: PeerConnection, protocol: string, signal: AbortSignal): Promise<readonly DhtPeer[]> {
    const { host } = this.#options
    using limit = new TimeLimit(exchangeTimeoutMs, signal)
    const stream = await connection.openStream(protocol, limit.signal)
    try {
      // One without addresses would not be taken.
      const circuit = `${connection.address.replace(/\/p2p\/.*/, '')}/p2p/${connection.peerId}/p2p-circuit`
      const self = { peerId: host.peerId, addresses: [...host.announced(), circuit] }
      writeDhtMessage(stream, { type: dhtTypes.addProvider, key: this.#key, providers: [self] })
      writeDhtMessage(stream, { type: dhtTypes.getProviders, key: this.#key })
      const answer = await readDhtMessage(stream, limit.signal)
      return answer?.providers ?? []
    } finally {
      resetStream(stream, new Error('the rendezvous is told'))
    }
  }
}
