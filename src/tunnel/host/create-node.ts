import { noise } from '@chainsafe/libp2p-noise'
import { type CircuitRelayService, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import type { Connection, Libp2p, PeerId, StreamMuxerFactory } from '@libp2p/interface'
import { ping } from '@libp2p/ping'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import type { Identity } from '../identity/identity.ts'
import type { KeyRing } from '../identity/key-ring.ts'
import { connectionLimits, limitConnections } from './connection-limits.ts'
import { createHandshakeWatch } from './handshake-watch.ts'
import { createSilentLibraryLogger } from './library-logger.ts'
import { createPeerGate, type PeerGateOptions } from './peer-gate.ts'
import { type KeyChoice, privateNetwork } from './private-network.ts'
import { type RelayMeter, relayServer } from './relay-server.ts'
import { type SharedPort, sharedPortTransport, type WayOut } from './shared-port.ts'
import { createYamux } from './yamux-muxer.ts'

/** How a node of the peer-to-peer network is made. */
export interface NodeOptions extends PeerGateOptions {
  readonly identity: Identity
  readonly listenPort: number
  /** Further TCP ports that are served like the first one. */
  readonly morePorts?: readonly number[]
  /** Absent for an open mesh. */
  readonly keyRing?: KeyRing | undefined
  readonly muxers: readonly ('yamux' | 'mplex')[]
  /** Streams that one connection may carry, each way. */
  readonly maxStreamsPerConnection: number
  /** Relays for others from the start. */
  readonly isRelay: boolean
  /** Makes the node findable for nodes of the Go system in its LAN, by mDNS under this name; absent without such nodes. */
  readonly rendezvous?: string | undefined
  /** Counts what this node relays over libp2p. */
  readonly relayMeter?: RelayMeter | undefined
  /** Who else is served on the listening port; may be added to at any time. */
  readonly port: SharedPort
}

/** The library's node, not yet started, with the parts of it that its types do not show. */
export interface CreatedNode {
  readonly node: Libp2p
  readonly internals: Internals
  readonly relay: CircuitRelayService
  /** Whether the relay takes reservations and joins connections. */
  readonly relaying: { isOn: boolean }
}

/** Options of a dial that reach what makes the connection. */
export type DialChoice = KeyChoice & WayOut

/** Parts of the library below its public surface; pinned by its exact version and the integration tests. */
export interface Internals {
  readonly transportManager: {
    /** Unlike `node.dial` it neither joins a dial to the same peer under way nor returns another connection. */
    dial(address: Multiaddr, options: { readonly signal: AbortSignal } & DialChoice): Promise<Connection>
    getAddrs(): readonly Multiaddr[]
  }
  readonly reservationStore: {
    addRelay(peerId: PeerId, type: 'configured'): Promise<unknown>
    hasReservation(peerId: PeerId): boolean
  }
}

/** More connections and pending handshakes than a mesh of a few thousand nodes has; the defaults fit a browser. */
const manyConnections = 16_384

/** Below the dialler's patience: a handshake that hangs, as it may with another pre-shared key, is to fail on both sides. */
const handshakeTimeoutMs = 4000

const reservationLifetimeMs = 12 * 3600 * 1000

// The library resets a stream that buffers more than its limit while its reader waits, so the window must be smaller.
const maxWindowBytes = 2 * 1024 * 1024
const maxReadBufferBytes = 4 * 1024 * 1024

/** Makes the node; nothing listens before it is started. */
export async function createNode(options: NodeOptions): Promise<CreatedNode> {
  const streams = options.maxStreamsPerConnection
  const internals: Partial<Internals> = {}
  const relaying = { isOn: options.isRelay }
  const relayTransport = circuitRelayTransport({
    reservationConcurrency: 16,
    maxInboundStopStreams: manyConnections,
    maxOutboundStopStreams: manyConnections,
  })
  const node = await createLibp2p({
    start: false,
    privateKey: options.identity.privateKey,
    nodeInfo: { name: 'edgemesh', version: '1' },
    logger: createSilentLibraryLogger(),
    addresses: {
      listen: [options.listenPort, ...(options.morePorts ?? [])].map((port) => `/ip4/0.0.0.0/tcp/${port}`),
      // Addresses travel in signed records, so the library announces none by itself, unless others must find us.
      ...(options.rendezvous === undefined && { announceFilter: () => [] }),
    },
    transports: [
      sharedPortTransport(options.port),
      (components) => {
        const transport = relayTransport(components)
        listQuickly(components.connectionManager)
        Object.assign(internals, {
          transportManager: components.transportManager,
          reservationStore: Reflect.get(transport, 'reservationStore'),
        })
        return transport
      },
    ],
    connectionEncrypters: [noise()],
    streamMuxers: await Promise.all(options.muxers.map((name) => muxerOf(name, streams))),
    connectionGater: limitConnections(
      createPeerGate(
        createHandshakeWatch({ logger: options.logger, hasPreSharedKey: options.keyRing !== undefined }),
        relaying,
        options,
      ),
      connectionLimits,
    ),
    ...(options.keyRing === undefined ? {} : { connectionProtector: privateNetwork(options.keyRing) }),
    connectionManager: {
      maxConnections: manyConnections,
      maxIncomingPendingConnections: manyConnections,
      inboundConnectionThreshold: manyConnections,
      inboundUpgradeTimeout: handshakeTimeoutMs,
      // Lost connections are replaced by those who need them.
      reconnectRetries: 0,
    },
    // It would take a slow line for a dead one; we watch by ourselves.
    connectionMonitor: { enabled: false },
    services: servicesOf(options),
    ...(options.rendezvous !== undefined && { peerDiscovery: [await discoveryOf(options.rendezvous)] }),
  })
  return { node, internals: completed(internals), relay: node.services.relay, relaying }
}

/** The library's list of all connections, as far as it is used here. */
interface ConnectionList {
  getConnections(peer?: PeerId): Connection[]
  getConnectionsMap(): { values(): Iterable<Connection[]> }
}

/** The library copies the list as often as there are peers, several times for each connection that comes. */
export function listQuickly(manager: ConnectionList): void {
  const connectionsTo = manager.getConnections.bind(manager)
  manager.getConnections = (peer) =>
    peer === undefined ? [...manager.getConnectionsMap().values()].flat() : connectionsTo(peer)
}

async function muxerOf(name: 'yamux' | 'mplex', maxStreams: number): Promise<() => StreamMuxerFactory> {
  // By itself it ends a connection on which six streams begin within a second; streams have limits of our own.
  if (name === 'mplex') return (await import('@libp2p/mplex')).mplex({ disconnectThreshold: maxStreams })
  return createYamux({
    // It would ask every neighbour twice a minute.
    enableKeepAlive: false,
    maxInboundStreams: maxStreams,
    maxOutboundStreams: maxStreams,
    // Flows that wait for a connection all open at once when it stands, before the far side has told its handlers.
    maxEarlyStreams: maxStreams,
    streamOptions: { maxStreamWindowSize: maxWindowBytes, maxReadBufferLength: maxReadBufferBytes },
  })
}

/** The Go system's service name is the rendezvous itself, without the usual parts. */
async function discoveryOf(rendezvous: string) {
  const { mdns } = await import('@libp2p/mdns')
  return mdns({ serviceTag: `${rendezvous}.local` })
}

function servicesOf({ relayMeter, rendezvous }: NodeOptions) {
  return {
    identify: identify({
      // Who asks is told; what we would be told nobody uses, and the library would look for a relay in everybody.
      runOnConnectionOpen: rendezvous !== undefined,
      runOnLimitedConnection: true,
      maxInboundStreams: 16,
      maxOutboundStreams: 16,
    }),
    ping: ping({ runOnLimitedConnection: true }),
    // Always there, so that it can be switched on while connections stand.
    relay: relayServer(
      {
        reservations: {
          applyDefaultLimit: false,
          maxReservations: manyConnections,
          reservationTtl: reservationLifetimeMs,
        },
        maxInboundHopStreams: manyConnections,
        maxOutboundHopStreams: manyConnections,
        maxOutboundStopStreams: manyConnections,
      },
      relayMeter,
    ),
  }
}

function completed(internals: Partial<Internals>): Internals {
  const { transportManager, reservationStore } = internals
  if (transportManager === undefined || reservationStore === undefined) {
    throw new Error('Cannot use this version of libp2p: its relay client has no reservation store')
  }
  return { transportManager, reservationStore }
}
