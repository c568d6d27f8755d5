/**
 * The only folder that runs commands or speaks netlink: nft, the bridge device, routes, firewalls of others, and
 * the removal of all that is ours. Each thing is a small interface with one real implementation, so that features can
 * be tested with a fake. It decides nothing: what to put into the kernel is rendered elsewhere (`proxy/kernel`).
 *
 * Read next: `ruleset-applier.ts`, `node-network.ts`, `foreign-firewall.ts`.
 *
 * @module
 */

export * from './clean-up.ts'
export { type Command, runCommand } from './command.ts'
export type * from './conntrack.ts'
export * from './errors.ts'
export * from './foreign-firewall.ts'
export * from './interface-addresses.ts'
export * from './iptables.ts'
export * from './kernel.ts'
export * from './kernel-settings.ts'
export { loadNativeFunctions, type NativeFunctions } from './native-functions.ts'
export { createRulesetApplier } from './nft-ruleset-applier.ts'
export type * from './node-network.ts'
export { nameProcess } from './process-name.ts'
export type { RefusingEnd, SetReader } from './refusals.ts'
export { createNodeNetwork } from './rt-node-network.ts'
export type * from './ruleset-applier.ts'
export * from './service-manager.ts'
export { openTcpInspector, type TcpEnds, type TcpInspector, type TcpProgress } from './tcp-progress.ts'
