/**
 * The way in from outside of the mesh: Istio Gateways and VirtualServices become listeners and routes, and requests
 * travel to the endpoints of Services. It reads no API and no files: objects come from the catalog.
 *
 *     routing/    objects -> route table; which rule takes a request       listeners/  ports, and what arrives there
 *     http/       HTTP/1.1 and HTTP/2 on both sides, as plain types         tls/        certificates from Secrets
 *     requests/   one request: rules, attempts, answers of our own          streams/    connections that are no HTTP
 *     backends/   destinations -> backends, and connections to them
 *
 * Read next: `start-gateway.ts`, `routing/build-route-table.ts`, `requests/request-handler.ts`, `requests/forward.ts`.
 *
 * @module
 */
export type { GatewayModuleConfig } from './config.ts'
export * from './start-gateway.ts'
