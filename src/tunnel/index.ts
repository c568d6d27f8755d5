/**
 * Carries flows between nodes by node name, over TLS links of our own that libp2p connections lead to: identity, name
 * records, the directory and relay of `edgemesh server`, flows with text errors. No libp2p type leaves this folder.
 * It does not pick backends and knows no Services beyond the check that a target is an endpoint of this node.
 *
 *     identity/   who we are: key on disk, pre-shared key         records/    signed names, who they belong to
 *     host/       libp2p: connections and streams as plain types  directory/  records and presence over a server
 *     flows/      one target, bytes or datagrams, any carrier     paths/      direct or relayed, chosen per flow
 *     links/      TLS connections between agents, for flows       relay/      joins links of nodes that cannot meet
 *     punch/      holes in NATs, opened by both ends              nat/        ports that routers open on demand
 *     legacy/     what agents of the Go system speak              server/     wires a server
 *     agent/      wires an agent or gateway
 *
 * Read next: `tunnel.ts`, `agent/start-tunnel.ts`, then `flows/`, `paths/`, `records/`.
 *
 * @module
 */
export { serverEntriesOf } from './agent/relay-nodes.ts'
export { startTunnel } from './agent/start-tunnel.ts'
export { TunnelListenError } from './host/host.ts'
export { ServerAddressError, serverHostsOf } from './host/server-address.ts'
export { deriveIdentity } from './identity/derived-key.ts'
export { IdentityError, readPeerId } from './identity/identity.ts'
export { derivedNameOf } from './identity/load-membership.ts'
export { PreSharedKeyError } from './identity/pre-shared-key.ts'
export { startTunnelServer } from './server/start-tunnel-server.ts'
export type * from './tunnel.ts'
