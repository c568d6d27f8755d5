import { setImmediate as leaveCallback } from 'node:timers/promises'
import type { NetlinkSocket, RawNetlinkSocket, RtNetlinkSocket } from 'netlink'
import { NetlinkError, NotPermittedError } from './errors.ts'

/**
 * The library's traps, contained here (docs/decisions/0008):
 *
 *   an exception in one of its callbacks ends the process         every event is emitted inside a try
 *   so does one at `process.nextTick` or a close within a callback    answers are handed over, and sockets closed, later
 *   so does a receive buffer that overflows                       no multicast group is ever joined; one request at
 *                                                                 a time, whose dump the kernel paces
 *   parts of two dumps that arrive mixed are confused             one request at a time
 *   an answer that is late or lost                                the request fails, the next gets a new socket
 */
const socketOptions = { recvBufferSize: 8 * 1024 * 1024, sendBufferSize: 1024 * 1024 }
const requestTimeoutMs = 5_000

/** Asks the kernel one thing at a time, on a socket that is replaced when it broke. */
export interface NetlinkRequests<S> extends Disposable {
  /** Runs a request of the library; an error answer becomes a `NetlinkError` with the kernel's code. */
  ask<T>(action: string, request: (socket: S) => Promise<T>): Promise<T>
}

/** Options that every request takes. */
export const requestOptions = { timeout: requestTimeoutMs } as const

/** Loads the library, and with it native code, only when something is asked of the kernel. */
async function loadNetlink() {
  return await import('netlink')
}

/** Asks about links, addresses and routes. */
export async function openRouteSocket(): Promise<NetlinkRequests<RtNetlinkSocket>> {
  const { createRtNetlink } = await loadNetlink()
  return new SequentialRequests(
    () => createRtNetlink(socketOptions),
    ({ socket }) => socket,
  )
}

/** Asks about nftables. */
export async function openNetfilterSocket(): Promise<NetlinkRequests<NetlinkSocket>> {
  const { createNetlink, Protocol } = await loadNetlink()
  return new SequentialRequests(
    () => createNetlink(Protocol.NETFILTER, socketOptions),
    (socket) => socket,
  )
}

/** Asks about sockets. */
export async function openDiagnosticsSocket(): Promise<NetlinkRequests<NetlinkSocket>> {
  const { createNetlink, Protocol } = await loadNetlink()
  return new SequentialRequests(
    () => createNetlink(Protocol.SOCK_DIAG),
    (socket) => socket,
  )
}

const ignore = (): void => {}

class SequentialRequests<S> implements NetlinkRequests<S> {
  readonly #open: () => S
  readonly #netlinkOf: (socket: S) => NetlinkSocket
  #socket: S | undefined
  #last: Promise<unknown> = Promise.resolve()
  #fail: (error: unknown) => void = ignore
  #isDisposed = false

  constructor(open: () => S, netlinkOf: (socket: S) => NetlinkSocket) {
    this.#open = open
    this.#netlinkOf = netlinkOf
    // At once, so that what cannot work at all fails the start.
    this.#socket = this.#openContained()
  }

  ask<T>(action: string, request: (socket: S) => Promise<T>): Promise<T> {
    const answer = this.#last.then(() => this.#run(action, request))
    // Not the answer: it would be kept until the next one.
    this.#last = answer.then(ignore, ignore)
    return answer
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true
    void this.#last.then(() => this.#drop())
  }

  async #run<T>(action: string, request: (socket: S) => Promise<T>): Promise<T> {
    const broken = Promise.withResolvers<never>()
    this.#fail = broken.reject
    try {
      if (this.#isDisposed) throw new Error('the socket is closed')
      this.#socket ??= this.#openContained()
      return await Promise.race([request(this.#socket), broken.promise])
    } catch (error) {
      const code = rejectionCodeOf(error)
      if (code === undefined) this.#drop()
      throw describe(action, code, error)
    } finally {
      // It would keep the answer too.
      this.#fail = ignore
      await leaveCallback()
    }
  }

  #openContained(): S {
    const socket = this.#open()
    const onFailure = (error: unknown) => {
      if (this.#socket !== socket) return
      this.#drop()
      this.#fail(error)
    }
    const netlink = this.#netlinkOf(socket)
    containEvents(netlink.socket, onFailure)
    netlink.on('error', onFailure)
    return socket
  }

  /** Answers may be lost or still come: the next request needs a socket of its own. */
  #drop(): void {
    const socket = this.#socket
    this.#socket = undefined
    if (socket !== undefined) setImmediate(() => this.#netlinkOf(socket).close())
  }
}

/** Everything that native code calls goes through `emit` of the library's lowest layer. */
function containEvents(raw: RawNetlinkSocket, onFailure: (error: unknown) => void): void {
  const emit = raw.emit.bind(raw)
  raw.emit = (...event) => {
    try {
      return emit(...event)
    } catch (error) {
      onFailure(error)
      return false
    }
  }
}

/** The kernel's code when it answered with an error. */
function rejectionCodeOf(error: unknown): string | undefined {
  return /^Request rejected: (\w+)/.exec(error instanceof Error ? error.message : '')?.[1]
}

function describe(action: string, code: string | undefined, cause: unknown): Error {
  if (code === undefined) return new Error(`Cannot ${action}`, { cause })
  if (code === 'EPERM' || code === 'EACCES') return new NotPermittedError(action, { cause })
  return new NetlinkError(action, code, { cause })
}

/** One netlink attribute: length, type, value, padding to 4 bytes. */
export function encodeAttribute(type: number, value: Buffer): Buffer {
  const length = 4 + value.length
  const attribute = Buffer.alloc(Math.ceil(length / 4) * 4)
  attribute.writeUInt16LE(length, 0)
  attribute.writeUInt16LE(type, 2)
  value.copy(attribute, 4)
  return attribute
}

/** The attributes in a buffer by type; flags in the type's upper bits are dropped. Stops at the first that is broken. */
export function decodeAttributes(bytes: Buffer): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>()
  let at = 0
  while (at + 4 <= bytes.length) {
    const length = bytes.readUInt16LE(at)
    if (length < 4 || at + length > bytes.length) break
    attributes.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + length))
    at += Math.ceil(length / 4) * 4
  }
  return attributes
}
