/**
 * Makes ClusterIPs work for this node and its pods. A Service's connections go straight to an endpoint on this node
 * by translation in the kernel, or to the userspace proxy, which dials the others. It knows nothing of the tunnel
 * (a `Dialer` is given to it) and does not find out about Services (a `Catalog` is). Beside that, `socks5/` reaches ports of
 * nodes by name, for clients that ask.
 *
 * Read next: `service-proxy.ts` (what follows what), `service-plan.ts` and `desired-state.ts` (what is decided),
 * `kernel/render-ruleset.ts` (the rules), `userspace/userspace-proxy.ts`, `l7/` (HTTP, also for the gateway).
 *
 * @module
 */
export * from './errors.ts'
export { chooseKernelRules, type KernelRules, type KernelRulesStatus } from './kernel/kernel-rules.ts'
export { tableName } from './kernel/nft-table.ts'
export * from './l4/dial-first-reachable.ts'
export * from './l7/index.ts'
export { type HostRouteStatus, type HostRoutes, type HostRoutesOptions, startHostRoutes } from './reach/host-routes.ts'
export type { ReachPeers } from './reach/reachability.ts'
export * from './service-proxy.ts'
export type * from './service-proxy-options.ts'
export * from './socks5/errors.ts'
export { type Socks5Proxy, startSocks5Proxy } from './socks5/socks5-proxy.ts'
