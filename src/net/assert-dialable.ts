import { isIP } from 'node:net'
import { DialError, type DialTarget } from './dialer.ts'

const carried = { tcp: 'a byte stream', udp: 'datagrams' } as const

/** Targets also arrive from peers, so what a socket would throw on or look up in DNS is refused here, with a `DialError`. */
export function assertDialable({ protocol, address, port }: DialTarget, wanted: keyof typeof carried): void {
  if (protocol !== wanted) {
    throw new DialError('forbidden', `connect ${protocol} ${address}:${port}: not ${carried[wanted]}`)
  }
  if (isIP(address) === 0) throw new DialError('forbidden', `connect ${address}:${port}: not an IP address`)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new DialError('forbidden', `connect ${address}:${port}: not a port`)
  }
}
