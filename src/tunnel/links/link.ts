import type { TLSSocket } from 'node:tls'
import { readInto } from '../../net/index.ts'
import {
  batchBuffers,
  decodeOffsets,
  encodeOffset,
  FrameBatch,
  FrameReader,
  type FrameSink,
  frameType,
  headBytes,
  LinkProtocolError,
} from './frame.ts'
import type { AgreedLink } from './handshake.ts'
import type { LinkKind } from './hello.ts'

/** Something with bytes to send when its turn comes. */
export interface Sender {
  /** Adds frames with at most so many bytes of payload; true when it has more that it may send. */
  fill(batch: FrameBatch, quantumBytes: number): boolean
}

/** Told what arrives on a link, and when it is gone. */
export interface LinkOwner {
  /** Throws a `LinkProtocolError` when the peer breaks a promise. */
  onFrame(link: Link, type: number, flow: number, payload: Buffer): void
  onData(link: Link, flow: number, bytes: Buffer): void
  onClosed(link: Link, error: Error): void
}

/** How a link came about. */
export interface LinkOrigin {
  readonly kind: LinkKind
  readonly agreed: AgreedLink
  /** For logs: `direct`, `punched` or `relayed via NAME`. */
  readonly path: string
  /** Ends the TCP connection below with a reset. */
  reset?(): void
}

/** Whether what travels this way, as logs call it, goes through no relay. */
export function isDirectPath(path: string): boolean {
  return !path.startsWith('relayed')
}

/** Every sender gets this much before the next one has its turn. */
const quantumBytes = 64 * 1024

/** What one write takes of the senders: two turns, with their heads. */
const writeBytes = 2 * quantumBytes

/** TLS gives no more at once; one for all links, since they never read at the same time. */
const readBuffer = Buffer.allocUnsafeSlow(16 * 1024)

/** A peer that reads nothing but makes us answer is cut off at this many bytes of answers. */
const maxControlBytes = 1024 * 1024

/** What is still on its way when the link ends in order gets this long. */
const leaveMs = 1000

/** Datagrams that wait for their turn; older ones make room. */
const maxDatagramBytes = 256 * 1024

/**
 * One authenticated TLS connection to a peer. What is to be sent is collected while events are handled and leaves as
 * one batch per turn of the event loop: control frames first, then 64 KiB of each sender in turn, until the socket
 * wants no more.
 */
export class Link implements FrameSink {
  readonly kind: LinkKind
  readonly path: string
  readonly isDirect: boolean
  readonly agreed: AgreedLink
  /** When something came from the peer for the last time, as `performance.now()` tells it. */
  lastHeardMs = performance.now()
  /** When bytes of flows came for the last time. */
  lastDataMs = 0
  /** When a datagram came or went for the last time. */
  lastDatagramMs = 0
  /** The last measured round trip. */
  roundTripMs: number | undefined
  /** Flows that send on this link. */
  flows = 0
  /** Since when no flow uses it. */
  idleSinceMs = performance.now()
  readonly #socket: TLSSocket
  readonly #owner: LinkOwner
  readonly #reset: () => void
  readonly #reader = new FrameReader(this)
  readonly #batch = new FrameBatch()
  #ready = new Set<Sender>()
  #control: (readonly [number, number, Uint8Array | undefined])[] = []
  #controlBytes = 0
  #datagrams: (readonly [number, Uint8Array])[] = []
  #datagramBytes = 0
  #isScheduled = false
  #isReading = false
  #isClosed = false
  #pingSentMs: number | undefined
  #onPong: (() => void)[] = []

  constructor(socket: TLSSocket, origin: LinkOrigin, owner: LinkOwner) {
    this.kind = origin.kind
    this.path = origin.path
    this.isDirect = isDirectPath(origin.path)
    this.agreed = origin.agreed
    this.#socket = socket
    this.#owner = owner
    this.#reset = () => origin.reset?.()
    socket.on('data', this.#onChunk)
    socket.on('drain', this.#flush)
    socket.on('error', () => {})
    socket.on('close', () => this.close(socket.errored ?? new Error('it was closed')))
    socket.on('end', () => this.close(new Error('the peer closed it')))
    this.#readFurther()
    socket.resume()
  }

  get isOpen(): boolean {
    return !this.#isClosed
  }

  /** The far end's address, which is the relay's when relayed. */
  get address(): string {
    return `${this.#socket.remoteAddress}:${this.#socket.remotePort}`
  }

  /** The address of this node that it was made from or to. */
  get localAddress(): string | undefined {
    return this.#socket.localAddress
  }

  get bytesRead(): number {
    return this.#socket.bytesRead
  }

  get bytesWritten(): number {
    return this.#socket.bytesWritten
  }

  /** A probe is under way, and nothing was heard since. */
  get probedSinceMs(): number | undefined {
    return this.#pingSentMs
  }

  has(capability: string): boolean {
    return this.agreed.hello.capabilities.includes(capability)
  }

  /** Sends a control frame before all payload. */
  control(type: number, flow: number, payload?: Uint8Array): void {
    if (this.#isClosed) return
    this.#control.push([type, flow, payload])
    this.#controlBytes += headBytes + (payload?.length ?? 0)
    if (this.#controlBytes > maxControlBytes) {
      this.close(new LinkProtocolError('the peer makes us answer, but does not read'))
      return
    }
    this.#schedule()
  }

  /** Sends a datagram, or drops the oldest ones when too many wait. */
  datagram(flow: number, message: Uint8Array): void {
    if (this.#isClosed) return
    this.lastDatagramMs = performance.now()
    this.#datagrams.push([flow, message])
    this.#datagramBytes += message.length
    while (this.#datagramBytes > maxDatagramBytes) this.#datagramBytes -= this.#datagrams.shift()?.[1].length ?? 0
    this.#schedule()
  }

  /** Gives the sender its turns from now on, until it says that it has no more. */
  ready(sender: Sender): void {
    if (this.#isClosed) return
    this.#ready.add(sender)
    this.#schedule()
  }

  /** The sender has its turns elsewhere, or none. */
  forget(sender: Sender): void {
    this.#ready.delete(sender)
  }

  /** Asks the peer for a sign of life, and measures the round trip. */
  probe(): void {
    if (this.#pingSentMs !== undefined) return
    this.#pingSentMs = performance.now()
    this.control(frameType.ping, 0, encodeOffset(Math.trunc(this.#pingSentMs)))
  }

  /**
   * A sign of life that nobody asked for. Who sends through a large window over a slow line would hear nothing for as long as it
   * takes to fill half of it, and its own question waits behind those bytes.
   */
  reassure(): void {
    this.control(frameType.pong, 0, encodeOffset(0))
  }

  /** Measures the round trip now, in milliseconds; resolves with undefined when the link ends before. */
  ping(): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number | undefined>()
    this.#onPong.push(() => resolve(this.#isClosed ? undefined : this.roundTripMs))
    this.probe()
    if (this.#isClosed) this.#answerPings()
    return promise
  }

  /** Says that all flows are over and that none will go on, and ends the link in order. */
  leave(error: Error): void {
    if (this.#isClosed) return
    const batch = new FrameBatch()
    batch.add(frameType.reset, 0, Buffer.from(error.message))
    this.#write(batch.take())
    this.#end(error)
    this.#socket.end()
    setTimeout(() => this.#socket.destroy(), leaveMs).unref()
  }

  /**
   * Ends a link that leads nowhere any more. A word of farewell would be sent again and again, and would keep the two ports,
   * and the NATs between them, from being used for the next attempt. Never called while the socket is being read.
   */
  abandon(error: Error): void {
    if (!this.#isClosed) this.#reset()
    this.close(error)
  }

  /** Ends the link at once; the owner is told why, once. */
  close(error: Error): void {
    if (this.#isClosed) return
    this.#end(error)
    this.#socket.destroy()
  }

  #end(error: Error): void {
    this.#isClosed = true
    this.#reader.stop()
    this.#ready.clear()
    this.#control = []
    this.#datagrams = []
    this.#answerPings()
    this.#owner.onClosed(this, error)
  }

  onFrame(type: number, flow: number, payload: Buffer): void {
    switch (type) {
      case frameType.ping:
        this.control(frameType.pong, 0, Buffer.from(payload.subarray(0, 8)))
        return
      case frameType.pong:
        this.#onPongFrame(payload)
        return
      default:
        this.#owner.onFrame(this, type, flow, payload)
    }
  }

  /** Answers repeat what was asked; others are signs of life. */
  #onPongFrame(payload: Buffer): void {
    if (this.#pingSentMs === undefined || decodeOffsets(payload)[0] !== Math.trunc(this.#pingSentMs)) return
    this.roundTripMs = performance.now() - this.#pingSentMs
    this.#pingSentMs = undefined
    this.#answerPings()
  }

  onData(flow: number, bytes: Buffer): void {
    this.lastDataMs = this.lastHeardMs
    this.#owner.onData(this, flow, bytes)
  }

  /** What has come with the handshake is told as Node does it. */
  readonly #onChunk = (chunk: Buffer): void => {
    this.#onBytes(chunk)
    this.#readFurther()
  }

  #readFurther(): void {
    if (this.#isReading || this.#socket.readableLength > 0) return
    this.#isReading = true
    const onRead = (bytes: number) => {
      this.#onBytes(readBuffer.subarray(0, bytes))
      return true
    }
    readInto(this.#socket, { buffer: readBuffer, onRead })
  }

  readonly #onBytes = (chunk: Buffer): void => {
    this.lastHeardMs = performance.now()
    try {
      this.#reader.feed(chunk)
    } catch (error) {
      this.close(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #answerPings(): void {
    for (const answer of this.#onPong.splice(0)) answer()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(this.#flush)
  }

  readonly #flush = (): void => {
    this.#isScheduled = false
    const socket = this.#socket
    // Data that waits for the kernel does not keep control frames: there are few, and others wait for them.
    if (this.#isClosed || (socket.writableNeedDrain && this.#control.length === 0)) return
    this.#fillControl()
    const room = socket.writableHighWaterMark - socket.writableLength
    this.#fillDatagrams(room)
    for (const sender of this.#ready) {
      if (this.#batch.bytes >= Math.min(room, writeBytes)) break
      this.#ready.delete(sender)
      if (sender.fill(this.#batch, quantumBytes)) this.#ready.add(sender)
    }
    // Many small writes can wait for a line that has stopped.
    this.#write(socket.writableLength > 0 ? this.#batch.takeCompact() : this.#batch.take())
    const hasMore = this.#ready.size > 0 || this.#datagrams.length > 0
    if (hasMore && !this.#isClosed && !socket.writableNeedDrain) this.#schedule()
  }

  #fillControl(): void {
    const frames = this.#control
    if (frames.length === 0 || this.#socket.writableLength > maxControlBytes) return
    this.#control = []
    this.#controlBytes = 0
    for (const [type, flow, payload] of frames) this.#batch.add(type, flow, payload)
  }

  #fillDatagrams(room: number): void {
    const queue = this.#datagrams
    let sent = 0
    while (sent < queue.length && this.#batch.bytes < room) {
      const [flow, message] = queue[sent] ?? [0, new Uint8Array()]
      this.#batch.add(frameType.datagram, flow, message)
      this.#datagramBytes -= message.length
      sent += 1
    }
    queue.splice(0, sent)
  }

  #write(parts: readonly Buffer[]): void {
    const [only] = parts
    if (only === undefined) return
    const onWritten = (error?: Error | null) => {
      if (error === undefined || error === null) for (const part of parts) batchBuffers.give(part)
    }
    if (parts.length === 1) {
      this.#socket.write(only, onWritten)
      return
    }
    this.#socket.cork()
    for (const part of parts) this.#socket.write(part, part === parts.at(-1) ? onWritten : undefined)
    this.#socket.uncork()
  }
}
