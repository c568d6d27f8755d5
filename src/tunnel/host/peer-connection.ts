import type { Connection, Stream } from '@libp2p/interface'
import type { TcpEnds } from '../../linux/index.ts'
import type { ByteStream, TcpSocket } from '../../net/index.ts'
import { abortable } from '../../runtime/index.ts'
import { directoryProtocol } from '../directory/messages.ts'
import { errorOfLibrary } from './library-error.ts'
import { StreamDuplex } from './stream-duplex.ts'

/** A stream to a peer and the protocol that was agreed on. */
export type ProtocolStream = ByteStream & { readonly protocol: string }

/** A connection to a peer whose identity the handshake has proven; carries any number of streams. */
export interface PeerConnection {
  readonly id: string
  readonly peerId: string
  /** The far end's multiaddress, through the relay when relayed. */
  readonly address: string
  /** The relay's peer ID when the connection runs through one. */
  readonly relayPeerId: string | undefined
  readonly isOpen: boolean
  /** Resolves when the connection is over, whichever way. */
  whenClosed(): Promise<void>
  /** We dialled it, so that its address can be dialled again. */
  readonly isOutbound: boolean
  /** The address of this node that it was made from or to; undefined when it runs through another connection. */
  readonly localAddress: string | undefined
  /** Where the bytes go; undefined when it runs through another connection, or not over IPv4. */
  readonly tcpEnds: TcpEnds | undefined
  /** When something came from the peer for the last time, as `performance.now()` tells it. */
  readonly lastHeardMs: number
  /** Since when we wait for anything to come from the peer; earlier than `lastHeardMs` when we do not. */
  readonly askedSinceMs: number
  /** Streams are open on it, other than those that are open while nothing happens. */
  readonly isBusy: boolean
  /** When something came over what the peer joins for others on connections of its own, as `performance.now()` tells it. */
  readonly joinedHeardMs: number
  /** The peer or our own line is away: nothing new is to begin on it before something comes. */
  readonly isDoubted: boolean
  /** Makes it doubted until something comes. */
  noteDoubted(): void
  /** Notes that something that runs through the peer waits for an answer, since then. */
  noteAsked(sinceMs: number): void
  /** Notes that something came over what the peer joins: it lives, however long its own answers wait in a full line. */
  noteJoinedHeard(atMs: number): void
  /** Opens a stream of the first of these protocols that the far end speaks; it has agreed to it when this resolves. */
  openStream(protocols: string | string[], signal: AbortSignal): Promise<ProtocolStream>
  /** Asks the peer for a sign of life, at the least cost; resolves or rejects when it is of no more use to wait. */
  probe(signal: AbortSignal): Promise<void>
  /** The round trip in milliseconds; undefined with a muxer that cannot tell. */
  measure(signal: AbortSignal): Promise<number | undefined>
  /** Ends the connection at once, and its streams with a reset. */
  abort(reason: Error): void
  /** Why this node has ended the connection; absent while it has not. */
  readonly endedFor?: Error | undefined
}

/** The peer has answered that it does not speak the protocol of the stream that was asked for. */
export function isUnsupported(error: unknown): boolean {
  return error instanceof Error && error.name === 'UnsupportedProtocolError'
}

/** True when no relay is in between. */
export function isDirect({ relayPeerId }: Pick<PeerConnection, 'relayPeerId'>): boolean {
  return relayPeerId === undefined
}

/** A connection of the library, for the host alone. */
export interface HostConnection extends PeerConnection {
  /** Makes a byte stream of a stream that the peer has opened on this connection. */
  carry(stream: Stream): ProtocolStream
}

const known = new WeakMap<Connection, HostConnection>()

const pingProtocol = '/ipfs/ping/1.0.0'

/** The same object each time for one connection. */
export function peerConnectionOf(connection: Connection): HostConnection {
  const existing = known.get(connection)
  if (existing !== undefined) return existing
  const created = createPeerConnection(connection)
  known.set(connection, created)
  return created
}

function createPeerConnection(connection: Connection): HostConnection {
  let lastHeardMs = performance.now()
  let askedSinceMs = 0
  let joinedHeardMs = 0
  let doubtedMs = 0
  let endedFor: Error | undefined
  const open = new Set<ByteStream>()
  const noteAsked = (sinceMs: number) => {
    if (askedSinceMs <= lastHeardMs) askedSinceMs = sinceMs
  }
  const noteSent = () => noteAsked(performance.now())
  const carry = (stream: Stream): ProtocolStream => {
    const carried = new StreamDuplex(stream, noteSent)
    if (stream.protocol === directoryProtocol) return carried
    open.add(carried)
    return carried.once('close', () => open.delete(carried))
  }
  wireOf(connection).addEventListener('message', () => {
    lastHeardMs = performance.now()
  })
  return {
    ...endsOf(connection),
    get isOpen() {
      return connection.status === 'open'
    },
    get lastHeardMs() {
      return lastHeardMs
    },
    get askedSinceMs() {
      return askedSinceMs
    },
    get joinedHeardMs() {
      return joinedHeardMs
    },
    noteJoinedHeard(atMs) {
      joinedHeardMs = Math.max(joinedHeardMs, atMs)
    },
    get isBusy() {
      return open.size > 0
    },
    get isDoubted() {
      return doubtedMs > Math.max(lastHeardMs, joinedHeardMs)
    },
    noteDoubted() {
      doubtedMs = performance.now()
    },
    carry,
    noteAsked,
    async openStream(protocols, signal) {
      noteSent()
      try {
        return carry(await connection.newStream(protocols, { signal, runOnLimitedConnection: true }))
      } catch (error) {
        throw errorOfLibrary(error)
      }
    },
    whenClosed: () => whenClosed(connection),
    probe: (signal) => whileOpen(connection, probe(connection, signal)),
    measure: (signal) => whileOpen(connection, measure(connection, signal)),
    abort(reason) {
      endedFor ??= reason
      connection.abort(reason)
    },
    get endedFor() {
      return endedFor
    },
  }
}

/** What never changes. */
function endsOf(connection: Connection) {
  const address = connection.remoteAddr.toString()
  return {
    id: connection.id,
    peerId: connection.remotePeer.toString(),
    address,
    relayPeerId: /\/p2p\/([^/]+)\/p2p-circuit/.exec(address)?.[1],
    isOutbound: connection.direction === 'outbound',
    localAddress: localAddressOf(connection),
    tcpEnds: tcpEndsOf(connection),
  }
}

function whenClosed(connection: Connection): Promise<void> {
  return new Promise((resolve) => {
    if (connection.status === 'closed') resolve()
    else connection.addEventListener('close', () => resolve(), { once: true })
  })
}

/** The library leaves who waits for an answer on a connection that closes to the end of its patience. */
async function whileOpen<T>(connection: Connection, answer: Promise<T>): Promise<T> {
  const closed = new AbortController()
  const onClose = () => closed.abort(new Error('the connection was closed'))
  connection.addEventListener('close', onClose, { once: true })
  if (connection.status === 'closed') onClose()
  try {
    return await abortable(answer, closed.signal)
  } finally {
    answer.catch(() => {})
    connection.removeEventListener('close', onClose)
  }
}

/** A ping of the muxer costs a fifth of a stream; a peer with another muxer must agree on a protocol, which is enough. */
async function probe(connection: Connection, signal: AbortSignal): Promise<void> {
  const muxer: unknown = Reflect.get(connection, 'muxer')
  if (isPinging(muxer)) {
    await abortable(muxer.ping(), signal)
    return
  }
  const stream = await connection.newStream(pingProtocol, { signal, runOnLimitedConnection: true })
  new StreamDuplex(stream).resume().end()
}

async function measure(connection: Connection, signal: AbortSignal): Promise<number | undefined> {
  const muxer: unknown = Reflect.get(connection, 'muxer')
  if (!isPinging(muxer)) return undefined
  const startedMs = performance.now()
  await abortable(muxer.ping(), signal)
  return performance.now() - startedMs
}

/** Its ping takes a signal too, but then ends the connection for an answer that comes late, as over a full line. */
function isPinging(muxer: unknown): muxer is { ping(): Promise<number> } {
  return typeof Reflect.get(Object(muxer), 'ping') === 'function'
}

function localAddressOf(connection: Connection): string | undefined {
  return socketOf(connection).localAddress
}

function tcpEndsOf(connection: Connection): TcpEnds | undefined {
  const { localAddress, localPort, remoteAddress, remotePort, remoteFamily } = socketOf(connection)
  if (!(localAddress && localPort && remoteAddress && remotePort) || remoteFamily !== 'IPv4') return undefined
  return { local: { address: localAddress, port: localPort }, remote: { address: remoteAddress, port: remotePort } }
}

/** The library shows no socket; the one below is pinned by its exact version and a test. */
function socketOf(connection: Connection): Partial<TcpSocket> {
  return Object(Reflect.get(wireOf(connection), 'socket'))
}

/** What the connection's bytes come from; not in the library's types, pinned by its exact version. */
function wireOf(connection: Connection): EventTarget {
  const wire: unknown = Reflect.get(connection, 'maConn')
  if (wire instanceof EventTarget) return wire
  throw new Error('Cannot use this version of libp2p: its connections do not show what comes from the peer')
}
