import type { Listener, Transport } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import type { Multiaddr } from '@multiformats/multiaddr'
import {
  connectThroughProxy,
  dialFromListener,
  type HttpProxy,
  type SocketAddress,
  startTcpListener,
  type TcpServer,
  type TcpSocket,
} from '../../net/index.ts'
import { socketAddressOf } from './server-address.ts'
import { tcpOptions } from './tcp-options.ts'

/** Takers of connections by their first bytes; all of these are `magicBytes` long. */
type RawHandlers = ReadonlyMap<string, (socket: TcpSocket) => void>

/** The listening port, and who else is served on it besides the library. */
export class SharedPort {
  readonly handlers = new Map<string, (socket: TcpSocket) => void>()
  #server: TcpServer | undefined

  /** Told by the transport what listens; the first one is dialled from. */
  opened(server: TcpServer): void {
    this.#server ??= server
  }

  /** Dials IPv4 from this port, as `dialFromListener` does; the socket is the caller's. */
  async dialFrom(target: SocketAddress, signal: AbortSignal): Promise<TcpSocket> {
    if (this.#server === undefined) throw new Error('Cannot dial from a port that nothing listens on')
    return await dialFromListener(this.#server, target, signal)
  }
}

/** Length of what a connection that is not libp2p's begins with. */
export const magicBytes = 8

/** A connection that says nothing in this time is no peer. */
const silentMs = 5000

/** More connections that have said nothing are refused: they cost a file descriptor each. */
const maxSilent = 1024

/** The same from one address: behind a NAT may be a few hundred nodes that come back at once. */
const maxSilentPerAddress = 256

type CreateTransport = ReturnType<typeof tcp>

/** Options of a dial that reach the transport. */
export interface WayOut {
  /** Opens the connection instead of the kernel. */
  readonly proxy?: HttpProxy | undefined
}

/** The step of the library's dial that makes a socket; pinned by its exact version and the integration tests. */
interface DialSteps {
  _connect(address: Multiaddr, options: WayOut & { readonly signal: AbortSignal }): Promise<TcpSocket>
}

/** Parts of the library's TCP listener that its types do not show; pinned by its exact version and the integration tests. */
interface ListenerParts {
  readonly server: TcpServer
  onSocket(socket: TcpSocket): void
}

/**
 * The library's TCP transport on a port that it shares: connections that begin with the magic of a handler go to that,
 * all others to the library. Nothing that the library's peers send can begin so: their first bytes are either text
 * with its length before it, or a random nonce that would have to hit all eight bytes.
 */
export function sharedPortTransport(port: SharedPort): CreateTransport {
  const create = tcp(tcpOptions)
  return (components) => {
    const transport = create(components)
    const createListener = transport.createListener.bind(transport)
    const connect = dialStepsOf(transport)._connect.bind(transport)
    const shared: Pick<Transport, 'createListener'> & DialSteps = {
      createListener: (options) => share(createListener(options), port),
      async _connect(address, options) {
        if (options.proxy === undefined) return await connect(address, options)
        return await connectThroughProxy(options.proxy, socketAddressOf(address.toString()), options.signal)
      },
    }
    return Object.assign(transport, shared)
  }
}

function share(listener: Listener, port: SharedPort): Listener {
  const { server, onSocket } = partsOf(listener)
  const silent = new Set<TcpSocket>()
  const close = listener.close.bind(listener)
  const listen = listener.listen.bind(listener)
  listener.listen = async (address) => {
    await assertFree(address.toString())
    await listen(address)
  }
  listener.close = async () => {
    for (const socket of silent) socket.destroy()
    await close()
  }
  server.removeAllListeners('connection')
  server.on('connection', (socket) => {
    const { remoteAddress } = socket
    const ofAddress = [...silent].filter((other) => other.remoteAddress === remoteAddress).length
    if (silent.size >= maxSilent || ofAddress >= maxSilentPerAddress) {
      socket.destroy()
      return
    }
    silent.add(socket)
    const onSpoken = (handler: ((socket: TcpSocket) => void) | undefined) => {
      silent.delete(socket)
      if (socket.destroyed) return
      if (handler === undefined) onSocket.call(listener, socket)
      else handler(socket)
    }
    peek(socket, port.handlers, onSpoken)
  })
  port.opened(server)
  return listener
}

/** Whoever else shares its port could listen on ours as well, and each would get some of the connections. */
async function assertFree(multiaddress: string): Promise<void> {
  const [, host = '0.0.0.0', port] = /^\/ip[46]\/([^/]+)\/tcp\/(\d+)/.exec(multiaddress) ?? []
  if (port === undefined || port === '0') return
  const onConnection = (socket: TcpSocket) => socket.destroy()
  const listening = startTcpListener({ host, port: Number(port), onConnection })
  // The library's callers know the kernel's own error.
  const listener = await listening.catch((error: unknown) => Promise.reject(Object(error).cause ?? error))
  await listener[Symbol.asyncDispose]()
}

/** Looks at the first bytes and leaves them in the socket unless they are a handler's. */
function peek(
  socket: TcpSocket,
  handlers: RawHandlers,
  onSpoken: (handler: ((socket: TcpSocket) => void) | undefined) => void,
): void {
  const timer = setTimeout(() => socket.destroy(), silentMs)
  let held = Buffer.alloc(0)
  const ignore = () => {}
  const settle = (handler: ((socket: TcpSocket) => void) | undefined) => {
    clearTimeout(timer)
    socket.off('readable', onReadable)
    socket.off('close', onClose)
    // Not before the socket knows that nobody waits for `readable` any more, or it would not flow.
    setImmediate(() => {
      onSpoken(handler)
      socket.off('error', ignore)
    })
  }
  const onClose = () => settle(undefined)
  const onReadable = () => {
    const more: unknown = socket.read()
    if (!Buffer.isBuffer(more)) return
    const bytes = Buffer.concat([held, more])
    held = bytes
    const first = bytes.subarray(0, magicBytes).toString('latin1')
    const isShort = bytes.length < magicBytes && [...handlers.keys()].some((magic) => magic.startsWith(first))
    if (isShort) return
    const handler = handlers.get(first)
    const rest = handler === undefined ? bytes : bytes.subarray(magicBytes)
    if (rest.length > 0) socket.unshift(rest)
    settle(handler)
  }
  socket.on('error', ignore)
  socket.on('close', onClose)
  socket.on('readable', onReadable)
}

function dialStepsOf(transport: Transport): DialSteps {
  if (typeof Reflect.get(transport, '_connect') === 'function') return transport as unknown as DialSteps
  throw new Error('Cannot use this version of @libp2p/tcp: its dial has other steps')
}

function partsOf(listener: Listener): ListenerParts {
  const server: unknown = Reflect.get(listener, 'server')
  const isThere = typeof server === 'object' && typeof Reflect.get(listener, 'onSocket') === 'function'
  if (isThere) return listener as unknown as ListenerParts
  throw new Error('Cannot use this version of @libp2p/tcp: its listener has no server to share')
}
