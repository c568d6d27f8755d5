/** The fields of a core/v1 Pod that this product uses. */
export interface Pod {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly nodeName?: string
  /** Canonical IPv4 or IPv6 text; empty before the Pod has an address and after it ended. */
  readonly podIPs: readonly string[]
  readonly ready: boolean
}
