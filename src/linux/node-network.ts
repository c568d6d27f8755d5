/** The links, addresses and routes of this node that are ours. */
export interface NodeNetwork {
  /**
   * Makes the device (dummy, else a portless bridge) with its /32 address and the local route of the synthetic
   * range; does nothing where they exist already. Rejects when the address is held by another device.
   */
  ensureDevice(device: DeviceSpec, signal: AbortSignal): Promise<void>
  /** Makes exactly these /32 routes exist on the device, for nodes that have no default route. */
  setHostRoutes(device: string, addresses: readonly string[], signal: AbortSignal): Promise<void>
  hasDefaultRoute(signal: AbortSignal): Promise<boolean>
  /** IPv4 addresses of this node with their prefix lengths, by interface. */
  addresses(): readonly InterfaceAddress[]
}

/** The device that holds the bridge address. */
export interface DeviceSpec {
  readonly name: string
  readonly address: string
  /** CIDR text. */
  readonly syntheticRange: string
}

/** One IPv4 address of an interface. */
export interface InterfaceAddress {
  readonly interface: string
  readonly address: string
  readonly prefixLength: number
}
