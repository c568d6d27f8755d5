import { createSocket, type Socket } from 'node:dgram'
import { listenErrorOf } from './listen-error.ts'

/** An IP address and a port. */
export interface SocketAddress {
  readonly address: string
  readonly port: number
}

/** What to bind and whom to tell. */
export interface DatagramOptions extends SocketAddress {
  /** How much may wait for us in the kernel, which gives what its own limit allows; its default when absent. */
  readonly receiveBufferBytes?: number
  onMessage(message: Buffer, from: SocketAddress): void
  /** A failure after the socket was bound; the socket goes on. */
  onError(error: Error): void
}

/** A bound UDP socket. */
export interface DatagramSocket extends AsyncDisposable {
  /** The port, also when 0 was asked for. */
  readonly port: number
  /** Sends, or drops when the network refuses: datagrams promise nothing. */
  send(message: Uint8Array, to: SocketAddress): void
}

/** How to wait for an answer. */
export interface ExchangeOptions {
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** The address to send from; the kernel's choice when absent. */
  readonly source?: string | undefined
  /** Tells the answer from anything else that arrives, which is ignored. */
  accept(message: Buffer): boolean
}

/** Binds a UDP socket; rejects with `AddressInUseError`, `ListenPermissionError` or another error. */
export async function openDatagramSocket(options: DatagramOptions): Promise<DatagramSocket> {
  const socket = createUdpSocket(options.address)
  await bound(socket, options)
  if (options.receiveBufferBytes !== undefined) socket.setRecvBufferSize(options.receiveBufferBytes)
  socket.on('error', (error) => options.onError(error))
  socket.on('message', (message, from) => options.onMessage(message, from))
  let isOpen = true
  return {
    port: socket.address().port,
    // An answer may come late, when the socket is closed already. The callback keeps a refused datagram (a full queue, a vanished route) from becoming an error of the socket.
    send(message, to) {
      // Anybody may send from port 0, to which nobody can send: the library would throw.
      if (isOpen && to.port !== 0) socket.send(message, to.port, to.address, ignore)
    },
    [Symbol.asyncDispose]() {
      isOpen = false
      return new Promise((resolve) => socket.close(() => resolve()))
    },
  }
}

/**
 * Sends one datagram from a fresh random port and resolves with the first accepted answer. The socket is connected,
 * so only that address can answer, and an ICMP refusal rejects at once instead of after the timeout.
 */
export async function exchangeDatagram(
  target: SocketAddress,
  message: Uint8Array,
  options: ExchangeOptions,
): Promise<Buffer> {
  options.signal.throwIfAborted()
  const socket = createUdpSocket(target.address)
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const timer = setTimeout(() => reject(timeoutError(target, options.timeoutMs)), options.timeoutMs)
  const onAbort = () => reject(options.signal.reason)
  options.signal.addEventListener('abort', onAbort, { once: true })
  socket.on('error', reject)
  socket.on('message', (answer) => {
    if (options.accept(answer)) resolve(answer)
  })
  let isOpen = true
  if (options.source !== undefined) socket.bind({ address: options.source, exclusive: true })
  socket.connect(target.port, target.address, (error?: Error) => {
    if (error) reject(error)
    // The exchange may be over before it began, and a closed socket throws.
    else if (isOpen) socket.send(message, (failure) => failure && reject(failure))
  })
  try {
    return await promise
  } finally {
    isOpen = false
    clearTimeout(timer)
    options.signal.removeEventListener('abort', onAbort)
    socket.close()
  }
}

/** The error of an exchange that nobody answered. */
export function timeoutError({ address, port }: SocketAddress, timeoutMs: number): Error {
  return Object.assign(new Error(`no answer from ${address} port ${port} within ${timeoutMs} ms`), {
    code: 'ETIMEDOUT',
  })
}

/** An unbound socket for the family of this IP address. */
export function createUdpSocket(address: string): Socket {
  const type = address.includes(':') ? 'udp6' : 'udp4'
  const family = type === 'udp6' ? 6 : 4
  // Only addresses are ever passed; looking them up again costs a turn of the event loop for every datagram.
  return createSocket({ type, lookup: (host, _options, callback) => callback(null, host, family) })
}

function bound(socket: Socket, { address, port }: SocketAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => {
      socket.close()
      reject(listenErrorOf(error, 'udp', address, port))
    }
    socket.once('error', onError)
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off('error', onError)
      resolve()
    })
  })
}

function ignore(): void {}
