import type { Catalog } from '../catalog/index.ts'
import type { NamedAddress } from '../linux/index.ts'
import type { DatagramDialer, Dialer } from '../net/index.ts'
import type { Health, Logger, Metrics } from '../observability/index.ts'
import type { TunnelConfig } from './config.ts'

/** How traffic to a peer travels now. */
export type PeerPath =
  /** To a neighbour in a subnet of this node. */
  | { readonly kind: 'lan'; readonly address: string }
  | { readonly kind: 'direct'; readonly address: string }
  /** Through NATs that both ends have opened by dialling at the same moment. */
  | { readonly kind: 'punched'; readonly address: string }
  | { readonly kind: 'relayed'; readonly via: string }
  | { readonly kind: 'none' }

/** What is known of one peer, for status and logs. */
export interface PeerStatus {
  readonly name: string
  readonly peerId: string
  readonly path: PeerPath
  readonly openFlows: number
  /** TLS connections to it; absent without any. */
  readonly links?: LinkFacts
  /** Attempts to connect directly that have failed since the last one that did not. */
  readonly failedAttempts: number
  readonly lastError?: string
  /** What flows lack because of the agent that the peer runs; absent for agents of this product. */
  readonly limits?: string
}

/** What is known of the links to one peer. */
export interface LinkFacts {
  readonly count: number
  /** Of the fastest link, when it was measured last. */
  readonly roundTripMs?: number
  /** Since the first of them, on the wire. */
  readonly bytesSent: number
  readonly bytesReceived: number
}

/** One measured round trip to a peer. */
export interface PingAnswer {
  /** `lan`, `direct`, `punched` or `relayed via NAME`. */
  readonly path: string
  /** On a TLS link, or on a libp2p connection while no link stands. */
  readonly carrier: 'link' | 'libp2p'
  readonly roundTripMs: number
}

/** What is known of one server or relay. */
export interface ServerStatus {
  readonly address: string
  readonly connected: boolean
  readonly reserved: boolean
  /** Last measured. */
  readonly roundTripMs?: number
  readonly lastError?: string
}

/** State of the tunnel at one moment. */
export interface TunnelStatus {
  readonly peerId: string
  readonly listen: readonly string[]
  /** Where the router in front of this node lets peers in, or why it does not; absent where routers are not asked. */
  readonly openedPort?: { readonly address?: string; readonly lastError?: string }
  readonly servers: readonly ServerStatus[]
  readonly peers: readonly PeerStatus[]
  /** Present while this agent relays for others. */
  readonly relay?: { readonly agents: number; readonly reservations: number }
}

/** Who belongs to the mesh, and what they get of a relay, as far as that may change while a node runs. */
export type Membership = Pick<TunnelConfig, 'psk' | 'trust' | 'peers' | 'revoked' | 'relay'>

/** The running tunnel of an agent or gateway. */
export interface Tunnel extends AsyncDisposable {
  /** Dials a target on another node by `nodeName`; rejects with `DialError`. */
  readonly dialer: Dialer & DatagramDialer
  status(): TunnelStatus
  /**
   * Makes these the servers and the agents that relay; links to those that stay are left alone. Rejects with a
   * `ServerAddressError`, and changes nothing, when an entry is no address, and with a `PreSharedKeyError`.
   */
  reload(config: Pick<TunnelConfig, 'servers' | 'relayNodes'> & Partial<Membership>): Promise<void>
  /** Measures the round trip to a node on the path that flows take now; rejects with a `DialError` without one. */
  ping(nodeName: string, signal: AbortSignal): Promise<PingAnswer>
  /** Waits until no peer has a flow to this node any more, or the signal aborts. */
  drain(signal: AbortSignal): Promise<void>
  /** Forgets the identity that a node name or a server address (`host:port`) is bound to; false when none was. */
  unpin(name: string): boolean
}

/** The running relay and directory. */
export interface TunnelServer extends AsyncDisposable {
  status(): TunnelServerStatus
  /** Makes this the membership; rejects with a `PreSharedKeyError`, and changes nothing. */
  reload(config: Partial<Membership>): Promise<void>
  /** Forgets the identity that a node name is bound to; false when none was. */
  unpin(name: string): boolean
}

/** State of a server at one moment. */
export interface TunnelServerStatus {
  readonly peerId: string
  readonly listen: readonly string[]
  readonly reservations: number
  /** What the busiest pairs of nodes have sent each other through this relay. */
  readonly relayed: readonly { readonly nodes: readonly string[]; readonly open: number; readonly bytes: number }[]
  readonly records: readonly { readonly name: string; readonly peerId: string; readonly connected: boolean }[]
}

/** What the tunnel of an agent or gateway is started with. */
export interface TunnelOptions {
  readonly config: TunnelConfig
  readonly nodeName: string
  /** Default `agent`. */
  readonly role?: 'agent' | 'gateway'
  /** Holds `identity.key` and `peers.json`. */
  readonly stateDir: string
  /** Environment variables, for `edgeTunnel.proxy: environment`; none when absent. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Says which targets peers may reach here. */
  readonly catalog: Catalog
  /** Dials the targets of peers on this node. */
  readonly localDialer: Dialer
  /** The same for datagrams; default: from this node's own network stack. */
  readonly localDatagrams?: DatagramDialer
  /** Where ports of this node itself (`edgeTunnel.allowNodePorts`) are dialled for peers. */
  readonly nodeAddress: () => string
  /** All addresses of this node; asked again every second. */
  readonly interfaceAddresses: () => readonly NamedAddress[]
  /** Text that differs whenever another way leads out of this node; asked again every second. */
  readonly defaultRoutes?: () => string
  /** IPv4 gateways of the default routes, which are asked to open a port; none when absent. */
  readonly defaultGateways?: () => readonly string[]
  /** Networks, as CIDR text, that peers never reach through this node besides the built-in ones: the synthetic range. */
  readonly forbiddenNetworks?: readonly string[]
  readonly logger: Logger
  readonly metrics: Metrics
  readonly health: Health
  /** Once aborted, new flows of peers are refused; open ones go on until disposal. */
  readonly signal?: AbortSignal
}

/** What a server is started with. */
export interface TunnelServerOptions {
  readonly config: TunnelConfig
  readonly nodeName: string
  /** Holds `identity.key` and `peers.json`. */
  readonly stateDir: string
  readonly logger: Logger
  readonly metrics: Metrics
  readonly health: Health
}
