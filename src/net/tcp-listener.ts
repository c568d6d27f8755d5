import { createServer, type Server, type Socket } from 'node:net'
import type { SocketAddress } from './datagram.ts'
import { dialFromListener } from './dial-from-listener.ts'
import { keepAliveDelayMs } from './direct-dialer.ts'
import { listenErrorOf } from './listen-error.ts'
import { ignoreError, resetStream } from './reset-stream.ts'

/** An accepted TCP connection: a `ByteStream` that also knows its addresses. */
export type TcpSocket = Socket

/** How to listen. */
export interface TcpListenerOptions {
  readonly host: string
  /** 0 lets the kernel choose. */
  readonly port: number
  /** Takes each connection; half-open, no delay, kept alive, and safe to leave without an `error` listener. */
  readonly onConnection: (socket: TcpSocket) => void
  /** Is told when the kernel could not hand over a connection, as when file descriptors run out; listening goes on. */
  readonly onAcceptError?: (error: Error) => void
  readonly backlog?: number
  readonly reusePort?: boolean
  /** Reads nothing from a connection until it is resumed; a reset by the client then goes unseen as well. */
  readonly pauseOnConnect?: boolean
}

/** A listening TCP socket and the connections it accepted; disposal resets those that are still open. */
export interface TcpListener extends AsyncDisposable {
  readonly address: string
  readonly port: number
  /** Frees the port at once and leaves open connections alone. */
  stopAccepting(): void
  /** Dials IPv4 from the listening port, as `dialFromListener` does; only with `reusePort`. The socket is the caller's. */
  dialFrom(target: SocketAddress, signal: AbortSignal): Promise<TcpSocket>
}

/** Resolves when the port is bound; rejects with `AddressInUseError`, `ListenPermissionError` or another error. */
export async function startTcpListener(options: TcpListenerOptions): Promise<TcpListener> {
  const open = new Set<Socket>()
  const server = createServer({
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveDelayMs,
    pauseOnConnect: options.pauseOnConnect ?? false,
  })
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    socket.on('error', ignoreError)
    options.onConnection(socket)
  })
  await listen(server, options)
  inheritOptions(server)
  server.on('error', (error) => options.onAcceptError?.(error))
  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new Error('Cannot listen: not an IP socket')
  const closed = new Promise<void>((resolve) => server.once('close', resolve))
  const stopAccepting = () => {
    if (server.listening) server.close()
  }
  return {
    address: bound.address,
    port: bound.port,
    stopAccepting,
    dialFrom: async (target, signal) => await dialFromListener(server, target, signal),
    async [Symbol.asyncDispose]() {
      stopAccepting()
      for (const socket of open) resetStream(socket, new Error('the listener stops'))
      await closed
    },
  }
}

/**
 * Linux copies these options from a listening socket to those that it accepts, which saves five calls for each of them.
 * Node would set them on each; where this version of it is built in another way it goes on to do so.
 */
function inheritOptions(server: Server): void {
  const handle: unknown = Reflect.get(server, '_handle')
  if (!isTcpHandle(handle)) return
  const isSet = handle.setNoDelay(true) === 0 && handle.setKeepAlive(true, keepAliveDelayMs / 1_000) === 0
  if (isSet) for (const option of ['noDelay', 'keepAlive']) Reflect.set(server, option, false)
}

/** Both give 0 or the number of an error. */
interface TcpHandle {
  setNoDelay(isOn: boolean): number
  setKeepAlive(isOn: boolean, delaySeconds: number): number
}

function isTcpHandle(handle: unknown): handle is TcpHandle {
  if (typeof handle !== 'object' || handle === null) return false
  return ['setNoDelay', 'setKeepAlive'].every((name) => typeof Reflect.get(handle, name) === 'function')
}

function listen(server: Server, { host, port, backlog = 4096, reusePort }: TcpListenerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => reject(listenErrorOf(error, 'tcp', host, port))
    server.once('error', onError)
    server.listen({ host, port, backlog, ...(reusePort === undefined ? {} : { reusePort }) }, () => {
      server.off('error', onError)
      resolve()
    })
  })
}
