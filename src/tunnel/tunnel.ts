import type { Dialer } from '../net/index.ts'

/** How traffic to a peer travels now. */
export type PeerPath =
  | { readonly kind: 'direct'; readonly address: string }
  | { readonly kind: 'relayed'; readonly via: string }
  | { readonly kind: 'none' }

/** What is known of one peer, for status and logs. */
export interface PeerStatus {
  readonly name: string
  readonly peerId: string
  readonly path: PeerPath
  readonly openFlows: number
  readonly lastError?: string
}

/** What is known of one server or relay. */
export interface ServerStatus {
  readonly address: string
  readonly connected: boolean
  readonly reserved: boolean
  readonly lastError?: string
}

/** State of the tunnel at one moment. */
export interface TunnelStatus {
  readonly peerId: string
  readonly listen: readonly string[]
  readonly servers: readonly ServerStatus[]
  readonly peers: readonly PeerStatus[]
}

/** The running tunnel of an agent or gateway. */
export interface Tunnel extends AsyncDisposable {
  /** Dials a target on another node by `nodeName`; rejects with `DialError`. */
  readonly dialer: Dialer
  status(): TunnelStatus
}

/** The running relay and directory. */
export interface TunnelServer extends AsyncDisposable {
  status(): TunnelServerStatus
}

/** State of a server at one moment. */
export interface TunnelServerStatus {
  readonly peerId: string
  readonly listen: readonly string[]
  readonly reservations: number
  readonly records: readonly { readonly name: string; readonly peerId: string; readonly connected: boolean }[]
}
