/**
 * Carries flows between nodes by node name, through libp2p: identity, name records, the directory and relay of
 * `edgemesh server`, flows with text errors. It hides libp2p: no libp2p type leaves this folder.
 * It does not pick backends and knows no Services beyond the check that a target is an endpoint of this node.
 *
 * Read next: `tunnel.ts`, then `flows/`, `records/`, `host/`.
 *
 * @module
 */
export type * from './tunnel.ts'
