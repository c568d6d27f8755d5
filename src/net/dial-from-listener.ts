import { type Server, Socket } from 'node:net'
import type { SocketAddress } from './datagram.ts'
import { DialError } from './dialer.ts'
import { keepAliveDelayMs } from './direct-dialer.ts'
import { whenConnected } from './when-connected.ts'

/**
 * What `node:net` has inside and does not document: a TCP handle can be bound with the flag that lets it share the port
 * of a listening socket, which `connect({ localPort })` cannot. Only this file knows; its test says when that changes.
 */
interface TcpHandle {
  bind(address: string, port: number, flags: number): void
}

/** `UV_TCP_REUSEPORT` of libuv. */
const reusePortFlag = 2
/** A handle for a connection, not for a server. */
const connectionHandle = 0

/** The kernel has a connection between the same two ports already: the far end's dial reached our listener first. */
export class MetInTheMiddleError extends Error {
  override readonly name = 'MetInTheMiddleError'
  readonly code = 'EDGEMESH_MET'
}

/** A server that listens on a TCP port. */
export type TcpServer = Server

/**
 * Dials IPv4 from the port that the server listens on, so that a NAT shows the same port for what we dial and for what
 * others dial. The server must listen with `reusePort`. When both ends do this at the same moment the connection stands
 * although neither listener has accepted (RFC 9293 3.5, simultaneous open). Rejects with a `MetInTheMiddleError` when
 * the server gets the connection instead, which is as good.
 */
export async function dialFromListener(server: Server, target: SocketAddress, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted()
  const socket = new Socket({ ...boundTo(server), allowHalfOpen: true, manualStart: true } as object)
  const connected = whenConnected(socket, signal, { errorOf: (error) => explain(error, target) })
  socket.connect({ host: target.address, port: target.port, family: 4 })
  await connected
  socket.setNoDelay(true)
  socket.setKeepAlive(true, keepAliveDelayMs)
  return socket
}

function boundTo(server: Server): { readonly handle: TcpHandle } {
  const listening: unknown = Reflect.get(server, '_handle')
  const address = server.address()
  if (typeof listening !== 'object' || listening === null || address === null || typeof address === 'string') {
    throw new Error('Cannot dial from a port that nothing listens on')
  }
  const handle: TcpHandle = Reflect.construct(Object(listening).constructor, [connectionHandle])
  // A port that is not shared fails the dial, not this.
  handle.bind('0.0.0.0', address.port, reusePortFlag)
  return { handle }
}

function explain(error: NodeJS.ErrnoException, { address, port }: SocketAddress): Error {
  if (error.code === 'EADDRNOTAVAIL') {
    return new MetInTheMiddleError(`${address}:${port} has connected to us already`, { cause: error })
  }
  if (error.code === 'EADDRINUSE') return new Error('Cannot dial from a port that is not shared', { cause: error })
  return new DialError(error.code === 'ECONNREFUSED' ? 'refused' : 'unreachable', error.message, { cause: error })
}
