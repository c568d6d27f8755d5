/** The links, addresses and routes of this node: a view of all of them, and the few that are ours. */
export interface NodeNetwork extends Disposable {
  /**
   * Makes the device (dummy, else a portless bridge) with its /32 address and the local route of the synthetic
   * range; does nothing where they exist already. True when it made the device. Rejects with `AddressTakenError` when another device holds the
   * address.
   */
  ensureDevice(device: DeviceSpec, signal: AbortSignal): Promise<boolean>
  /** Removes the device with its address and routes; does nothing when there is none. */
  removeDevice(name: string, signal: AbortSignal): Promise<void>
  /**
   * Makes exactly these /32 routes exist on the device, for nodes that have no default route; packets that start
   * here get `source` as their address.
   */
  setHostRoutes(device: string, routes: HostRoutes, signal: AbortSignal): Promise<void>
  /**
   * Makes exactly these routes through neighbours exist among those that are ours (protocol 96), and tells which could
   * not be added or removed. Routes of others are never touched, and win where they lead to the same network.
   */
  setNeighbourRoutes(routes: readonly NeighbourRoute[], signal: AbortSignal): Promise<readonly NeighbourRouteFailure[]>
  /** Everything as it is now. */
  view(signal: AbortSignal): Promise<NetworkView>
  /**
   * Calls back, with nothing, within a second or so after links, IPv4 addresses or IPv4 routes changed. What the
   * callback throws is logged.
   */
  watch(onChange: () => void): Promise<Disposable>
}

/** The device that holds the bridge address. */
export interface DeviceSpec {
  readonly name: string
  readonly address: string
  /** CIDR text. */
  readonly syntheticRange: string
}

/** Destinations that need a route of their own. */
export interface HostRoutes {
  readonly addresses: readonly string[]
  /** An address of this node; absent leaves the choice to the kernel. */
  readonly source?: string | undefined
}

/** A way to a network through another machine in a network of this node. */
export interface NeighbourRoute {
  /** CIDR text. */
  readonly network: string
  readonly gateway: string
  readonly interface: string
}

/** A route that could not be added, or removed. */
export interface NeighbourRouteFailure {
  readonly route: NeighbourRoute
  readonly error: unknown
}

/** The IPv4 network of this node at one moment. */
export interface NetworkView {
  readonly interfaces: readonly NetworkInterface[]
  /** Names of the interfaces that a default route leaves by. */
  readonly defaultRouteInterfaces: readonly string[]
  /** Addresses of the routers that default routes lead to. */
  readonly defaultGateways: readonly string[]
  /** The other routes of the main table. */
  readonly routes: readonly NetworkRoute[]
}

/** One route, to anything but everything. */
export interface NetworkRoute {
  /** CIDR text. */
  readonly network: string
  /** False for routes that refuse or drop packets. */
  readonly leadsSomewhere: boolean
  /** Absent for routes over several interfaces, and those that lead nowhere. */
  readonly interface?: string
  /** The next hop; absent without one, or with several. */
  readonly gateway?: string
  /** Made by this node's agent, now or in an earlier run. */
  readonly isOurs?: true
}

/** One interface with its IPv4 addresses. */
export interface NetworkInterface {
  readonly name: string
  /** `bridge`, `veth`, `dummy`, ...; absent for hardware. */
  readonly kind?: string | undefined
  readonly isUp: boolean
  readonly isLoopback: boolean
  readonly addresses: readonly InterfaceAddress[]
  /** For bridges: whether frames between their ports pass through nftables. */
  readonly bridgeNetfilter: boolean
}

/** One IPv4 address of an interface. */
export interface InterfaceAddress {
  readonly address: string
  readonly prefixLength: number
}
