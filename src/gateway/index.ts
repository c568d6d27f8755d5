/**
 * The way in from outside of the mesh: Istio Gateways and VirtualServices become listeners and routes, and requests
 * travel to the endpoints of Services. It reads no API and no files: objects come from the catalog.
 *
 * Read next: `config.ts`.
 *
 * @module
 */
export type { GatewayModuleConfig } from './config.ts'
