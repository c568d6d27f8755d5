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
