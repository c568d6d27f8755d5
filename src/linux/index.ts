/**
 * The only folder that runs commands or speaks netlink: nft, the bridge device, routes. Each thing is a small
 * interface with one real implementation, so that features can be tested with a fake.
 *
 * Read next: `ruleset-applier.ts`, `node-network.ts`.
 *
 * @module
 */
export type * from './node-network.ts'
export type * from './ruleset-applier.ts'
