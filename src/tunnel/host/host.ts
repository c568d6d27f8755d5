import type { CircuitRelayService } from '@libp2p/circuit-relay-v2'
import type { Connection, Libp2p, PeerId, PeerInfo } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { openTcpInspector } from '../../linux/index.ts'
import {
  type ByteStream,
  connectTcp,
  connectThroughProxy,
  type HttpProxy,
  listenErrorOf,
  type SocketAddress,
  type TcpSocket,
} from '../../net/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { KeyRing } from '../identity/key-ring.ts'
import { type CreatedNode, createNode, type DialChoice, type NodeOptions } from './create-node.ts'
import { errorOfLibrary } from './library-error.ts'
import { type PeerConnection, peerConnectionOf } from './peer-connection.ts'
import { isHandshakeFailure } from './private-network.ts'
import { socketAddressOf } from './server-address.ts'
import { SharedPort } from './shared-port.ts'
import { agentSilence, type SilencePolicy, serverSilence, watchSilence } from './silence.ts'

/** Who takes the streams of a protocol that peers open; the handler owns the stream. */
export interface ProtocolHandler {
  readonly protocol: string
  /** Streams of this protocol that one connection may carry, each way. */
  readonly maxStreams: number
  onStream(stream: ByteStream, from: PeerConnection): void
}

/** Told when a connection comes up or goes. */
export type ConnectionListener = (event: 'open' | 'close', connection: PeerConnection) => void

/** Told of a peer that was found, and its multiaddresses. */
export type FoundListener = (peerId: string, addresses: readonly string[]) => void

/** This node among its peers: connections by identity, streams by protocol. Hides libp2p from the rest of the tunnel. */
export interface Host extends AsyncDisposable {
  readonly peerId: string
  /** Who takes the streams of a protocol; peers that have connected before do not learn of it by themselves. */
  handle(handler: ProtocolHandler): Promise<void>
  /** Refuses new streams of a protocol again. */
  unhandle(protocol: string): Promise<void>
  /** Who takes the connections to our port that begin with these bytes, which are taken off, until disposed. */
  handleRaw(magic: string, onSocket: (socket: TcpSocket) => void): Disposable
  /** Dials IPv4 from the listening port; rejects with a `MetInTheMiddleError` when the peer's dial was first. */
  dialFromPort(target: SocketAddress, signal: AbortSignal): Promise<TcpSocket>
  /** Starts listening; rejects with a `TunnelListenError`. */
  listen(): Promise<void>
  /** Multiaddresses of the listening sockets. */
  listening(): readonly string[]
  /** Multiaddresses that peers are told by the library; none unless others must find us. */
  announced(): readonly string[]
  /** The TCP port peers connect to; the chosen one when the configured port is 0. */
  listeningPort(): number
  /** Connects to exactly this multiaddress, whatever other connections there are. */
  dial(multiaddress: string, signal: AbortSignal, proxy?: HttpProxy): Promise<PeerConnection>
  /** Opens a TCP connection to where we have dialled this one, and on the same way; throws for one of the peer's. */
  dialAgain(connection: PeerConnection, signal: AbortSignal): Promise<TcpSocket>
  /** True when the connection runs through an HTTP proxy of our side. */
  isProxied(connection: PeerConnection): boolean
  /** Open connections to the peer, oldest first. */
  connectionsTo(peerId: string): readonly PeerConnection[]
  /** All open connections. */
  connections(): readonly PeerConnection[]
  /** Calls back with each connection that is given up because nothing was heard on it, until disposed. */
  onSilent(listener: (connection: PeerConnection) => void): Disposable
  /** Calls back with each connection to a relay that becomes doubted, and again when it no longer is, until disposed. */
  onDoubt(listener: (connection: PeerConnection) => void): Disposable
  /** Calls back until disposed. */
  onConnection(listener: ConnectionListener): Disposable
  /** Calls back with each peer found in the LAN, again and again while it is there, until disposed. */
  onFound(listener: FoundListener): Disposable
  /** Asks a connected relay to let others reach us through it; renewed by itself while the connection lasts. */
  reserve(relayPeerId: string): Promise<void>
  hasReservation(relayPeerId: string): boolean
  /** Lets others be reached through us, or no longer: then reservations end, and no new connection is joined. */
  setRelaying(isOn: boolean): void
  /** Peers that can be reached through us. */
  reservations(): number
}

/** The port is taken, or the address cannot be used. */
export class TunnelListenError extends Error {
  override readonly name = 'TunnelListenError'
  readonly code = 'EDGEMESH_TUNNEL_LISTEN'
  readonly remedy: string | undefined

  constructor(message: string, options: ErrorOptions & { readonly remedy?: string }) {
    super(message, options)
    this.remedy = options.remedy
  }
}

/** The library tags relays for reconnection, which the owner of the server connection does better. */
const libraryKeepAliveTag = 'keep-alive-circuit-relay'

/** Who says nothing to the new pre-shared key for this long is dialled with the old one; most refuse at once. */
const otherKeyAfterMs = 2000

/** Makes the host; it neither listens nor dials before `listen`. */
export async function createHost(options: Omit<NodeOptions, 'port'>): Promise<Host> {
  const nodeOptions = { ...options, port: new SharedPort() }
  return hostOf(await createNode(nodeOptions), nodeOptions)
}

/** Multiaddresses that were dialled through a proxy; as few as there are servers. */
type ProxiedAddresses = Map<string, HttpProxy>

type SilenceListeners = Set<(connection: PeerConnection) => void>

/** What watching connections needs besides them. */
interface WatchParts {
  readonly relays: ReadonlySet<string>
  readonly silent: SilenceListeners
  readonly doubt: SilenceListeners
  readonly peerIdOf: (text: string) => PeerId
  readonly proxied: ProxiedAddresses
}

function hostOf(created: CreatedNode, { isRelay, port, keyRing }: NodeOptions): Host {
  const { node, internals, relay } = created
  const watching = new DisposableStack()
  const relays = new Set<string>()
  const proxied: ProxiedAddresses = new Map()
  const peerIdOf = createPeerIdParser()
  node.addEventListener('peer:disconnect', ({ detail }) => dropReservation(relay, detail))
  const silent: SilenceListeners = new Set()
  const doubt: SilenceListeners = new Set()
  const listening = () => internals.transportManager.getAddrs().map(String)
  return {
    peerId: node.peerId.toString(),
    handle: (handler) => handle(node, handler),
    unhandle: (protocol) => node.unhandle(protocol),
    setRelaying: (isOn) => setRelaying(created, isOn),
    handleRaw(magic, onSocket) {
      port.handlers.set(magic, onSocket)
      return { [Symbol.dispose]: () => void port.handlers.delete(magic) }
    },
    dialFromPort: (target, signal) => port.dialFrom(target, signal),
    async listen() {
      try {
        await node.start()
        const parts = { relays, silent, doubt, peerIdOf, proxied }
        watching.use(watchConnections(created, isRelay ? serverSilence : agentSilence, parts))
      } catch (error) {
        throw listenFailureOf(error)
      }
    },
    listening,
    announced: () => node.getMultiaddrs().map((address) => address.toString().replace(/\/p2p\/[^/]+$/, '')),
    listeningPort: () => Number(/\/tcp\/(\d+)/.exec(listening()[0] ?? '')?.[1] ?? 0),
    dial(multiaddress, signal, proxy) {
      if (proxy !== undefined) proxied.set(multiaddress, proxy)
      return dialWithEitherKey(created, keyRing, multiaddress, { signal, proxy })
    },
    dialAgain: (connection, signal) => dialAgain(connection, proxied, signal),
    isProxied: (connection) => proxyOf(connection, proxied) !== undefined,
    connectionsTo: (peerId) => openConnections(node, peerIdOf(peerId)),
    connections: () => openConnections(node),
    onSilent: (listener) => listenIn(silent, listener),
    onDoubt: (listener) => listenIn(doubt, listener),
    onConnection: (listener) => onConnection(created, listener),
    onFound: (listener) => onFound(node, listener),
    async reserve(relayPeerId) {
      const relayPeer = peerIdFromString(relayPeerId)
      relays.add(relayPeerId)
      await internals.reservationStore.addRelay(relayPeer, 'configured')
      await node.peerStore.merge(relayPeer, { tags: { [libraryKeepAliveTag]: undefined } })
    },
    hasReservation: (relayPeerId) => internals.reservationStore.hasReservation(peerIdFromString(relayPeerId)),
    reservations: () => relay.reservations.size,
    async [Symbol.asyncDispose]() {
      watching.dispose()
      await node.stop()
    },
  }
}

function listenIn<T>(listeners: Set<T>, listener: T): Disposable {
  listeners.add(listener)
  return { [Symbol.dispose]: () => void listeners.delete(listener) }
}

async function handle(node: Libp2p, { protocol, maxStreams, onStream }: ProtocolHandler): Promise<void> {
  await node.handle(
    protocol,
    (stream, connection) => {
      const from = peerConnectionOf(connection)
      onStream(from.carry(stream), from)
    },
    { runOnLimitedConnection: true, maxInboundStreams: maxStreams, maxOutboundStreams: maxStreams },
  )
}

function watchConnections(
  { node, relay }: CreatedNode,
  policy: SilencePolicy,
  { relays, silent, doubt, peerIdOf, proxied }: WatchParts,
): Disposable {
  const connections = () => openConnections(node)
  const tell = (listeners: SilenceListeners) => (connection: PeerConnection) => {
    for (const listener of listeners) listener(connection)
  }
  const servedOrIdle = (peer: PeerId) => (relay.reservations.has(peer) ? 'served' : 'idle')
  const restingUseOf = (peerId: string) => (relays.has(peerId) ? 'kept' : servedOrIdle(peerIdOf(peerId)))
  const isReachable = (connection: PeerConnection, signal: AbortSignal) => knock(connection, proxied, signal)
  return watchSilence({
    policy,
    connections,
    restingUseOf,
    isReachable,
    inspect: openTcpInspector,
    onSilent: tell(silent),
    onDoubt: tell(doubt),
  })
}

/** Whether a machine takes connections, or refuses them, where we have dialled this one. */
async function knock(connection: PeerConnection, proxied: ProxiedAddresses, signal: AbortSignal): Promise<boolean> {
  try {
    const socket = await dialAgain(connection, proxied, signal)
    socket.resetAndDestroy()
    return true
  } catch (error) {
    return Reflect.get(Object(error), 'code') === 'ECONNREFUSED'
  }
}

function onFound(node: Libp2p, listener: FoundListener): Disposable {
  const tell = ({ detail }: CustomEvent<PeerInfo>) => listener(detail.id.toString(), detail.multiaddrs.map(String))
  node.addEventListener('peer:discovery', tell)
  return { [Symbol.dispose]: () => node.removeEventListener('peer:discovery', tell) }
}

function onConnection({ node }: CreatedNode, listener: ConnectionListener): Disposable {
  const onOpen = ({ detail }: CustomEvent<Connection>) => listener('open', peerConnectionOf(detail))
  const onClose = ({ detail }: CustomEvent<Connection>) => listener('close', peerConnectionOf(detail))
  node.addEventListener('connection:open', onOpen)
  node.addEventListener('connection:close', onClose)
  return {
    [Symbol.dispose]() {
      node.removeEventListener('connection:open', onOpen)
      node.removeEventListener('connection:close', onClose)
    },
  }
}

/** During a rotation of the pre-shared key who refuses the new one is dialled with the old one. */
async function dialWithEitherKey(
  created: CreatedNode,
  keyRing: KeyRing | undefined,
  multiaddress: string,
  { signal, proxy }: DialOptions,
): Promise<PeerConnection> {
  if (keyRing?.previous === undefined) return await dial(created, multiaddress, { signal, proxy })
  using limit = new TimeLimit(otherKeyAfterMs, signal)
  try {
    return await dial(created, multiaddress, { signal: limit.signal, proxy })
  } catch (error) {
    signal.throwIfAborted()
    const mayBeTheKey = isHandshakeFailure(error) || limit.signal.aborted
    if (!mayBeTheKey) throw error
    return await dial(created, multiaddress, { signal, proxy, usesPreviousKey: true })
  }
}

type DialOptions = { readonly signal: AbortSignal } & DialChoice

function dial(
  { internals }: CreatedNode,
  multiaddress: string,
  { signal, ...choice }: DialOptions,
): Promise<PeerConnection> {
  return untilSettled(signal, async (dialing) => {
    try {
      const connection = await internals.transportManager.dial(multiaddr(multiaddress), { signal: dialing, ...choice })
      return peerConnectionOf(connection)
    } catch (error) {
      throw errorOfLibrary(error)
    }
  })
}

async function dialAgain(
  connection: PeerConnection,
  proxied: ProxiedAddresses,
  signal: AbortSignal,
): Promise<TcpSocket> {
  if (!connection.isOutbound) throw new Error(`${connection.address} is no address that we have dialled`)
  const target = socketAddressOf(connection.address)
  const proxy = proxyOf(connection, proxied)
  if (proxy !== undefined) return await connectThroughProxy(proxy, target, signal)
  return await connectTcp(target.host, target.port, signal)
}

function proxyOf({ address, isOutbound }: PeerConnection, proxied: ProxiedAddresses): HttpProxy | undefined {
  return isOutbound ? proxied.get(address.replace(/\/p2p\/.*/, '')) : undefined
}

function setRelaying({ relay, relaying }: CreatedNode, isOn: boolean): void {
  relaying.isOn = isOn
  if (!isOn) for (const peer of relay.reservations.keys()) dropReservation(relay, peer)
}

/** The library keeps the reservation of a peer that left for hours; nobody can be reached through it. */
function dropReservation({ reservations }: CircuitRelayService, peer: PeerId): void {
  // Else it would remove the reservation of a later connection when its time is up.
  reservations.get(peer)?.signal.clear()
  reservations.delete(peer)
}

/** The library says why it cannot listen only in its text, among advice that is not for our users and stacks. */
function listenFailureOf(error: unknown): TunnelListenError {
  const [, port, code] = /\/tcp\/(\d+): [^/]*?\b(EADDRINUSE|EADDRNOTAVAIL|EACCES)\b/.exec(String(error)) ?? []
  if (code === undefined) return new TunnelListenError('Cannot listen for the tunnel', { cause: error })
  const cause = listenErrorOf(Object.assign(new Error(code), { code }), 'tcp', '0.0.0.0', Number(port))
  const remedy = `find out who listens there (ss -lntp "sport = :${port}"), or set another modules.edgeTunnel.listenPort`
  return new TunnelListenError(`Cannot listen on TCP port ${port} for the tunnel`, {
    cause,
    ...(code === 'EADDRINUSE' && { remedy }),
  })
}

const maxParsedPeerIds = 10_000

/** Peers are asked for with every flow, and to parse an identity costs more than all the rest of the question. */
function createPeerIdParser(): (text: string) => PeerId {
  const known = new Map<string, PeerId>()
  return (text) => {
    const parsed = known.get(text) ?? peerIdFromString(text)
    if (known.size >= maxParsedPeerIds) known.clear()
    known.set(text, parsed)
    return parsed
  }
}

function openConnections(node: Libp2p, peer?: PeerId): PeerConnection[] {
  return node.getConnections(peer).map(peerConnectionOf).filter(isOpen)
}

function isOpen(connection: PeerConnection): boolean {
  return connection.isOpen
}

/**
 * Runs with a signal that follows `signal` only while the work is under way. The TCP transport ties the socket to the
 * signal of its dial for good: a time limit that fires later would cut the connection in the middle of its life.
 */
async function untilSettled<T>(signal: AbortSignal, work: (limited: AbortSignal) => Promise<T>): Promise<T> {
  signal.throwIfAborted()
  const limited = new AbortController()
  const onAbort = () => limited.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await work(limited.signal)
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
