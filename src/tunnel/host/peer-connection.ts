import type { Connection } from '@libp2p/interface'
import type { ByteStream } from '../../net/index.ts'
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
  /** When something came from the peer for the last time, as `performance.now()` tells it. */
  readonly lastHeardMs: number
  /** Opens a stream of the first of these protocols that the far end speaks; it has agreed to it when this resolves. */
  openStream(protocols: string | string[], signal: AbortSignal): Promise<ProtocolStream>
  /** Ends the connection at once, and its streams with a reset. */
  abort(reason: Error): void
}

const known = new WeakMap<Connection, PeerConnection>()

/** The same object each time for one connection. */
export function peerConnectionOf(connection: Connection): PeerConnection {
  const existing = known.get(connection)
  if (existing !== undefined) return existing
  const created = createPeerConnection(connection)
  known.set(connection, created)
  return created
}

function createPeerConnection(connection: Connection): PeerConnection {
  const address = connection.remoteAddr.toString()
  let lastHeardMs = performance.now()
  wireOf(connection).addEventListener('message', () => {
    lastHeardMs = performance.now()
  })
  return {
    id: connection.id,
    peerId: connection.remotePeer.toString(),
    address,
    relayPeerId: /\/p2p\/([^/]+)\/p2p-circuit/.exec(address)?.[1],
    get isOpen() {
      return connection.status === 'open'
    },
    get lastHeardMs() {
      return lastHeardMs
    },
    async openStream(protocols, signal) {
      const stream = await connection.newStream(protocols, { signal, runOnLimitedConnection: true })
      return new StreamDuplex(stream)
    },
    whenClosed: () =>
      new Promise((resolve) => {
        if (connection.status === 'closed') resolve()
        else connection.addEventListener('close', () => resolve(), { once: true })
      }),
    abort: (reason) => connection.abort(reason),
  }
}

/** What the connection's bytes come from; not in the library's types, pinned by its exact version. */
function wireOf(connection: Connection): EventTarget {
  const wire: unknown = Reflect.get(connection, 'maConn')
  if (wire instanceof EventTarget) return wire
  throw new Error('Cannot use this version of libp2p: its connections do not show what comes from the peer')
}
