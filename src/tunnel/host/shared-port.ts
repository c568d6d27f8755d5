import type { Listener, Transport } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import type { TcpSocket } from '../../net/index.ts'
import { tcpOptions } from './tcp-options.ts'

/** Takers of connections by their first bytes; all of these are `magicBytes` long. */
export type RawHandlers = Map<string, (socket: TcpSocket) => void>

/** Length of what a connection that is not libp2p's begins with. */
export const magicBytes = 8

/** A connection that says nothing in this time is no peer. */
const silentMs = 5000

/** More connections that have said nothing are refused: they cost a file descriptor each. */
const maxSilent = 1024

type CreateTransport = ReturnType<typeof tcp>

/** Parts of the library's TCP listener that its types do not show; pinned by its exact version and the integration tests. */
interface ListenerParts {
  readonly server: {
    removeAllListeners(event: 'connection'): unknown
    on(event: 'connection', listener: (socket: TcpSocket) => void): unknown
  }
  onSocket(socket: TcpSocket): void
}

/**
 * The library's TCP transport on a port that it shares: connections that begin with the magic of a handler go to that,
 * all others to the library. Nothing that the library's peers send can begin so: their first bytes are either text
 * with its length before it, or a random nonce that would have to hit all eight bytes.
 */
export function sharedPort(handlers: RawHandlers): CreateTransport {
  const create = tcp(tcpOptions)
  return (components) => {
    const transport = create(components)
    const createListener = transport.createListener.bind(transport)
    const shared: Pick<Transport, 'createListener'> = {
      createListener: (options) => share(createListener(options), handlers),
    }
    return Object.assign(transport, shared)
  }
}

function share(listener: Listener, handlers: RawHandlers): Listener {
  const { server, onSocket } = partsOf(listener)
  const silent = new Set<TcpSocket>()
  const close = listener.close.bind(listener)
  listener.close = async () => {
    for (const socket of silent) socket.destroy()
    await close()
  }
  server.removeAllListeners('connection')
  server.on('connection', (socket) => {
    if (silent.size >= maxSilent) {
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
    peek(socket, handlers, onSpoken)
  })
  return listener
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

function partsOf(listener: Listener): ListenerParts {
  const server: unknown = Reflect.get(listener, 'server')
  const isThere = typeof server === 'object' && typeof Reflect.get(listener, 'onSocket') === 'function'
  if (isThere) return listener as unknown as ListenerParts
  throw new Error('Cannot use this version of @libp2p/tcp: its listener has no server to share')
}
