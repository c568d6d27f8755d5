import { AddressInUseError, ListenPermissionError } from '../net/index.ts'

/** DNS cannot listen; names the address and port, and what most likely stands in the way. */
export class DnsListenError extends Error {
  override readonly name = 'DnsListenError'
  readonly code = 'EDGEMESH_DNS_LISTEN'
  readonly address: string
  readonly port: number
  readonly remedy: string

  constructor(address: string, port: number, cause: unknown) {
    super(`Cannot serve DNS on ${address} port ${port}`, { cause })
    this.address = address
    this.port = port
    this.remedy = remedyFor(cause)
  }
}

function remedyFor(cause: unknown): string {
  if (cause instanceof AddressInUseError) {
    return (
      'Another DNS server holds the port, often dnsmasq, systemd-resolved or named on 0.0.0.0: bind it to its own ' +
      'addresses (dnsmasq: bind-interfaces; systemd-resolved: DNSStubListenerExtra), or set modules.edgeDNS.listenPort'
    )
  }
  if (cause instanceof ListenPermissionError) return 'Run as root or with CAP_NET_BIND_SERVICE'
  return 'Give the address to an interface of this node, or correct commonConfig.bridgeDeviceIP'
}
