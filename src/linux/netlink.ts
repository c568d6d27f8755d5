import type { NetlinkSocket, RtNetlinkSocket } from 'netlink'
import { NetlinkError, NotPermittedError } from './errors.ts'

/**
 * The library's socket with its traps contained. An exception in one of its callbacks ends the process, and so does
 * an unheard `error` event; a receive buffer that overflows loses answers. So: callbacks here only store values, all
 * errors are heard, the buffer is large, and each request has a deadline. Requests go one by one, because the library
 * confuses the parts of two dumps that arrive mixed.
 */
const socketOptions = { recvBufferSize: 8 * 1024 * 1024, sendBufferSize: 1024 * 1024 }
const requestTimeoutMs = 5_000

/** Asks the kernel one thing at a time. */
export interface NetlinkRequests extends Disposable {
  /** Runs a request of the library; an error answer becomes a `NetlinkError` with the kernel's code. */
  ask<T>(action: string, request: () => Promise<T>): Promise<T>
}

/** Options that every request takes. */
export const requestOptions = { timeout: requestTimeoutMs } as const

/** Loads the library, and with it native code, only when something is asked of the kernel. */
async function loadNetlink() {
  return await import('netlink')
}

/** A socket for links, addresses and routes. */
export async function openRouteSocket(): Promise<{ socket: RtNetlinkSocket } & NetlinkRequests> {
  const { createRtNetlink } = await loadNetlink()
  const socket = createRtNetlink(socketOptions)
  return { socket, ...requestsOn(socket.socket) }
}

/** A socket for nftables. */
export async function openNetfilterSocket(): Promise<{ socket: NetlinkSocket } & NetlinkRequests> {
  const { createNetlink, Protocol } = await loadNetlink()
  const socket = createNetlink(Protocol.NETFILTER, socketOptions)
  return { socket, ...requestsOn(socket) }
}

/** Calls back, with nothing, when a link, an IPv4 address or an IPv4 route changes, or when such news was lost. */
export async function watchNetwork(onChange: () => void): Promise<Disposable> {
  const { createRtNetlink } = await loadNetlink()
  const socket = createRtNetlink(socketOptions)
  const tell = () => queueMicrotask(onChange)
  for (const group of ['LINK', 'IPV4_IFADDR', 'IPV4_ROUTE'] as const) socket.addMembership(group)
  socket.socket.on('message', tell)
  socket.socket.on('error', tell)
  return closing(socket.socket)
}

function requestsOn(socket: NetlinkSocket): NetlinkRequests {
  socket.on('error', () => {
    // Answers that were lost with the error end in their deadline.
  })
  let last: Promise<unknown> = Promise.resolve()
  return {
    ask(action, request) {
      const answer = last.then(request).catch((error: unknown) => {
        throw describe(action, error)
      })
      last = answer.catch(() => {})
      return answer
    },
    ...closing(socket),
  }
}

function closing(socket: NetlinkSocket): Disposable {
  let isOpen = true
  return {
    [Symbol.dispose]() {
      if (isOpen) socket.close()
      isOpen = false
    },
  }
}

function describe(action: string, error: unknown): Error {
  const code = /^Request rejected: (\w+)/.exec(error instanceof Error ? error.message : '')?.[1]
  if (code === 'EPERM' || code === 'EACCES') return new NotPermittedError(action, { cause: error })
  if (code !== undefined) return new NetlinkError(action, code, { cause: error })
  return new Error(`Cannot ${action}`, { cause: error })
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
