import { readFile } from 'node:fs/promises'

/** Which local ports the kernel gives to outgoing connections. */
export interface EphemeralPorts {
  readonly first: number
  readonly last: number
  /** Ports inside that range that it leaves alone. */
  isReserved(port: number): boolean
}

/** Reads `net.ipv4.ip_local_port_range` and `ip_local_reserved_ports`; the kernel's defaults where they cannot be read. */
export async function readEphemeralPorts(): Promise<EphemeralPorts> {
  const [first = 32768, last = 60999] = ((await readSetting('ipv4/ip_local_port_range')) ?? '')
    .split(/\s+/)
    .flatMap(numberIn)
  const reserved = await readSetting('ipv4/ip_local_reserved_ports')
  const ranges = (reserved ?? '').split(',').map((range) => range.split('-').flatMap(numberIn))
  return {
    first,
    last,
    isReserved: (port) =>
      ranges.some(([from, to = from]) => from !== undefined && to !== undefined && from <= port && port <= to),
  }
}

/** Whether frames that a bridge switches between its ports pass through nftables, for all bridges. */
export async function readBridgeNetfilter(): Promise<boolean> {
  return (await readSetting('bridge/bridge-nf-call-iptables')) === '1'
}

async function readSetting(path: string): Promise<string | undefined> {
  try {
    return (await readFile(`/proc/sys/net/${path}`, 'utf8')).trim()
  } catch {
    // Settings of modules that are not loaded do not exist.
    return undefined
  }
}

const numberIn = (text: string): number[] => (/^\d+$/.test(text) ? [Number(text)] : [])
