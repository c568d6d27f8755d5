import type { Protocol } from '../model/index.ts'

/** The listener's address is taken, usually by another instance or by another DNS server or proxy. */
export class AddressInUseError extends Error {
  override readonly name = 'AddressInUseError'
  readonly code = 'EDGEMESH_ADDRESS_IN_USE'
  readonly port: number
  readonly remedy: string

  constructor(where: string, port: number, options?: ErrorOptions) {
    super(`Cannot listen on ${where}: address is already in use`, options)
    this.port = port
    const kind = where.startsWith('udp') ? 'u' : 't'
    this.remedy = `find out who listens there: ss -ln${kind}p "sport = :${port}"`
  }
}

/** The process may not listen there; ports below 1024 need root or CAP_NET_BIND_SERVICE. */
export class ListenPermissionError extends Error {
  override readonly name = 'ListenPermissionError'
  readonly code = 'EDGEMESH_LISTEN_PERMISSION'
  readonly port: number

  constructor(where: string, port: number, options?: ErrorOptions) {
    super(`Cannot listen on ${where}: permission denied (ports below 1024 need root)`, options)
    this.port = port
  }
}

/** The error of a failed listen or bind, with the condition as its class where a caller can act on it. */
export function listenErrorOf(cause: unknown, protocol: Protocol, host: string, port: number): Error {
  const where = `${protocol} ${host.includes(':') ? `[${host}]` : host}:${port}`
  const code = (cause as NodeJS.ErrnoException | undefined)?.code
  if (code === 'EADDRINUSE') return new AddressInUseError(where, port, { cause })
  if (code === 'EACCES' || code === 'EPERM') return new ListenPermissionError(where, port, { cause })
  if (code === 'EADDRNOTAVAIL') return new Error(`Cannot listen on ${where}: no such address on this node`, { cause })
  return new Error(`Cannot listen on ${where}`, { cause })
}
