import { connect } from 'node:net'
import { type ExchangeOptions, type SocketAddress, timeoutError } from './datagram.ts'
import { startTcpListener, type TcpSocket } from './tcp-listener.ts'

/** A TCP server of messages that carry their length in two bytes before them, as DNS sends them. */
export interface MessageServerOptions extends SocketAddress {
  /** How long a connection may go without a whole message in either direction. */
  readonly idleTimeoutMs: number
  /** Connections beyond these are closed at once. */
  readonly maxConnections: number
  /** Answers one message; undefined closes the connection. Several may be under way on one connection. */
  onMessage(message: Buffer, from: SocketAddress): Promise<Uint8Array | undefined> | Uint8Array | undefined
}

/** A listening server; disposal closes its connections too. */
export interface MessageServer extends AsyncDisposable {
  /** The port, also when 0 was asked for. */
  readonly port: number
  /** How many connections are open. */
  readonly connections: number
}

// Enough to keep a pipelining client busy; more would let one client hold the memory of many answers.
const maxPending = 32

/** Listens; rejects as `startTcpListener` does. */
export async function startMessageServer(options: MessageServerOptions): Promise<MessageServer> {
  let connections = 0
  const listener = await startTcpListener({
    host: options.address,
    port: options.port,
    onConnection(socket) {
      if (connections >= options.maxConnections) {
        socket.destroy()
        return
      }
      connections++
      socket.once('close', () => connections--)
      new MessageConnection(socket, options).begin()
    },
  })
  return {
    port: listener.port,
    get connections() {
      return connections
    },
    [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose](),
  }
}

/** Sends one message over a connection of its own and resolves with the first accepted answer. */
export async function exchangeMessage(
  target: SocketAddress,
  message: Uint8Array,
  options: ExchangeOptions,
): Promise<Buffer> {
  options.signal.throwIfAborted()
  const socket = connect({ host: target.address, port: target.port, noDelay: true })
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const timer = setTimeout(() => reject(timeoutError(target, options.timeoutMs)), options.timeoutMs)
  const onAbort = () => reject(options.signal.reason)
  options.signal.addEventListener('abort', onAbort, { once: true })
  const frames = new FrameReader()
  socket.on('error', reject)
  socket.on('close', () => reject(new Error(`${target.address} port ${target.port} closed without an answer`)))
  socket.on('data', (chunk) => {
    frames.push(chunk)
    for (let answer = frames.next(); answer !== undefined; answer = frames.next()) {
      if (options.accept(answer)) resolve(answer)
    }
  })
  socket.write(frameOf(message))
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    options.signal.removeEventListener('abort', onAbort)
    socket.destroy()
  }
}

/** One client: takes messages while few are under way and the client reads its answers, in any order. */
class MessageConnection {
  readonly #socket: TcpSocket
  readonly #options: MessageServerOptions
  readonly #from: SocketAddress
  readonly #frames = new FrameReader()
  readonly #idle: NodeJS.Timeout
  #pending = 0
  #isEnded = false

  constructor(socket: TcpSocket, options: MessageServerOptions) {
    this.#socket = socket
    this.#options = options
    this.#from = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 }
    this.#idle = setTimeout(() => socket.destroy(), options.idleTimeoutMs)
  }

  begin(): void {
    const socket = this.#socket
    socket.on('data', (chunk: Buffer) => {
      this.#frames.push(chunk)
      this.#pump()
    })
    socket.on('drain', () => this.#pump())
    socket.on('end', () => {
      this.#isEnded = true
      this.#pump()
    })
    socket.on('close', () => clearTimeout(this.#idle))
  }

  #pump(): void {
    const socket = this.#socket
    while (!socket.destroyed && this.#pending < maxPending && !socket.writableNeedDrain) {
      const message = this.#frames.next()
      if (message === undefined) break
      void this.#answer(message)
    }
    // What arrives beyond that stays in the kernel; a client that never reads its answers meets the idle limit.
    if (this.#pending >= maxPending || socket.writableNeedDrain) socket.pause()
    else if (this.#isEnded && this.#pending === 0) socket.end()
    else socket.resume()
  }

  async #answer(message: Buffer): Promise<void> {
    this.#pending++
    this.#idle.refresh()
    const answer = await this.#respond(message)
    this.#pending--
    if (this.#socket.destroyed) return
    this.#idle.refresh()
    if (answer === undefined) {
      this.#socket.destroy()
      return
    }
    this.#socket.write(frameOf(answer))
    this.#pump()
  }

  async #respond(message: Buffer): Promise<Uint8Array | undefined> {
    try {
      return await this.#options.onMessage(message, this.#from)
    } catch {
      return undefined
    }
  }
}

/** Cuts a byte stream into messages. */
class FrameReader {
  #rest: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
  }

  /** The next whole message, if one is there. */
  next(): Buffer | undefined {
    const rest = this.#rest
    if (rest.length < 2) return undefined
    const end = 2 + rest.readUInt16BE(0)
    if (rest.length < end) return undefined
    this.#rest = rest.subarray(end)
    return rest.subarray(2, end)
  }
}

function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(2 + message.length)
  frame.writeUInt16BE(message.length, 0)
  frame.set(message, 2)
  return frame
}
