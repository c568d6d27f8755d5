import { peerIdFromString } from '@libp2p/peer-id'
import { ipv4ToNumber } from '../../model/index.ts'

/** The port of `edgemesh server` when an address names none. */
export const defaultServerPort = 20004

/** Where a server is, from an entry of `edgeTunnel.servers`. */
export interface ServerAddress {
  /** As configured, without the peer ID: names the server in logs and in stored state. */
  readonly text: string
  readonly multiaddress: string
  /** Pins the server when configured. */
  readonly peerId?: string
}

/** An entry of `edgeTunnel.servers` that is no address. */
export class ServerAddressError extends Error {
  override readonly name = 'ServerAddressError'
  readonly code = 'EDGEMESH_SERVER_ADDRESS'
}

/** Reads `host[:port][/p2p/PEER_ID]`; the host is a name, an IPv4 address, or an IPv6 address in brackets. */
export function parseServerAddress(entry: string): ServerAddress {
  const [address = '', peerId, ...rest] = entry.split('/p2p/')
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(address)
  const port = Number(match?.[3] ?? defaultServerPort)
  if (match === null || rest.length > 0 || port < 1 || port > 65_535) {
    throw new ServerAddressError(`Cannot use server "${entry}": expected host[:port][/p2p/PEER_ID]`)
  }
  if (peerId !== undefined) assertPeerId(entry, peerId)
  const host = match[1] ?? match[2] ?? ''
  return {
    text: `${match[1] === undefined ? host : `[${host}]`}:${port}`,
    multiaddress: tcpMultiaddressOf(host, port),
    ...(peerId === undefined ? {} : { peerId }),
  }
}

/** An entry of `edgeTunnel.servers` for a host and a port, pinned when the identity is known. */
export function serverEntryOf(host: string, port: number, peerId?: string): string {
  const pin = peerId === undefined ? '' : `/p2p/${peerId}`
  return `${host.includes(':') ? `[${host}]` : host}:${port}${pin}`
}

/** The IPv4 addresses among the hosts of entries of `edgeTunnel.servers`; throws a `ServerAddressError`. */
export function serverHostsOf(entries: readonly string[]): ReadonlySet<string> {
  const hosts = entries.map((entry) => parseServerAddress(entry).text.replace(/:\d+$/, ''))
  return new Set(hosts.filter((host) => ipv4ToNumber(host) !== undefined))
}

/** `/ip4/A/tcp/P`, or the same with `ip6` or `dns`. */
export function tcpMultiaddressOf(host: string, port: number): string {
  if (ipv4ToNumber(host) !== undefined) return `/ip4/${host}/tcp/${port}`
  return host.includes(':') ? `/ip6/${host}/tcp/${port}` : `/dns/${host}/tcp/${port}`
}

/** Host and port of a TCP multiaddress; throws for any other. */
export function socketAddressOf(multiaddress: string): { readonly host: string; readonly port: number } {
  const parts = /^\/(?:ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d+)(?:\/p2p\/[^/]+)?$/.exec(multiaddress) ?? []
  const [, host, port] = parts
  if (host === undefined) throw new Error(`${multiaddress} is no TCP address`)
  return { host, port: Number(port) }
}

function assertPeerId(entry: string, peerId: string): void {
  try {
    peerIdFromString(peerId)
  } catch (error) {
    throw new ServerAddressError(`Cannot use server "${entry}": ${peerId} is no peer ID`, { cause: error })
  }
}
