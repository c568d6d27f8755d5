import type { Socket } from 'node:net'

/**
 * True when a dial was given the very port it dials as its source: the kernel then connects the socket to itself, and
 * it would answer its own request. Happens by chance on loopback for free ports in the ephemeral range.
 */
export function isSelfConnection(socket: Socket, dialledPort: number): boolean {
  // Each of these asks the kernel; the first one nearly always suffices.
  return socket.localPort === dialledPort && socket.localAddress === socket.remoteAddress
}
