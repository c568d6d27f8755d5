import { readFileSync } from 'node:fs'

/** Which local ports the kernel gives to outgoing connections. */
export interface EphemeralPorts {
  readonly first: number
  readonly last: number
  /** Ports inside that range that it leaves alone. */
  isReserved(port: number): boolean
}

/** Reads `net.ipv4.ip_local_port_range` and `ip_local_reserved_ports`; the kernel's defaults where they cannot be read. */
export function readEphemeralPorts(): EphemeralPorts {
  const [first = 32768, last = 60999] = (readSetting('ipv4/ip_local_port_range') ?? '').split(/\s+/).flatMap(numberIn)
  const reserved = readSetting('ipv4/ip_local_reserved_ports')
  const ranges = (reserved ?? '').split(',').map((range) => range.split('-').flatMap(numberIn))
  return {
    first,
    last,
    isReserved: (port) =>
      ranges.some(([from, to = from]) => from !== undefined && to !== undefined && from <= port && port <= to),
  }
}

/** Whether frames that a bridge switches between its ports pass through nftables, for all bridges. */
export function readBridgeNetfilter(): boolean {
  return readSetting('bridge/bridge-nf-call-iptables') === '1'
}

/** The kernel makes the text while it is read: handing that to another thread costs 15 times as much, and 64 KiB each time. */
function readSetting(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/net/${path}`, 'utf8').trim()
  } catch {
    // Settings of modules that are not loaded do not exist.
    return undefined
  }
}

const numberIn = (text: string): number[] => (/^\d+$/.test(text) ? [Number(text)] : [])
