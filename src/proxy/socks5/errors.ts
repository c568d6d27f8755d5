import { AddressInUseError } from '../../net/index.ts'

/** The SOCKS5 entry cannot listen; names the address, the port and what to change. */
export class Socks5ListenError extends Error {
  override readonly name = 'Socks5ListenError'
  readonly code = 'EDGEMESH_SOCKS5_LISTEN'
  readonly remedy: string

  constructor(address: string, port: number, cause: unknown) {
    super(`Cannot serve SOCKS5 on ${address} port ${port}`, { cause })
    this.remedy =
      cause instanceof AddressInUseError
        ? 'Another process holds the port: choose a different modules.edgeProxy.socks5Proxy.listenPort'
        : 'Correct modules.edgeProxy.socks5Proxy.listenPort or commonConfig.bridgeDeviceIP'
  }
}
