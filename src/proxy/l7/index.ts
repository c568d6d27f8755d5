/**
 * HTTP/1.1 between clients and backends, request by request, for whoever decides by the head of a request where it
 * goes: the userspace proxy and the gateway. Node parses; what is sent on is what came, without the fields of one hop.
 * It knows nothing of Services: a decision brings a connection.
 *
 * Read next: `http-proxy.ts`, `decision.ts`, `exchange.ts`.
 *
 * @module
 */
export * from './decision.ts'
export { UpstreamFailedError, UpstreamTimeoutError } from './exchange.ts'
export type { FlatHeaders } from './headers.ts'
export * from './http-proxy.ts'
export * from './preface.ts'
export * from './request-key.ts'
export * from './upstream-pool.ts'
