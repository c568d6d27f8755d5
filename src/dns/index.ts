/**
 * Cluster DNS on the node: answers names of the cluster domain and reverse names of cluster addresses from the
 * catalog, cloud or no cloud, and forwards the rest to the host's resolvers. What an answer holds is decided by pure
 * functions (`zone.ts`, `forwarded-response.ts`); sockets are a thin shell around them. Questions that repeat are answered
 * from the bytes of the last answer (`hot-answers.ts`).
 * It resolves nothing recursively itself and validates no signatures.
 *
 * Read next: `dns-server.ts`, `responder.ts`, `zone.ts`, `forwarder.ts`.
 *
 * @module
 */
export { type DnsOptions, type DnsServer, type DnsStatus, startDns } from './dns-server.ts'
export { DnsListenError } from './errors.ts'
export type { AddressOfEndpoint } from './service-records.ts'
