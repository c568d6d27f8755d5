/**
 * The words of the domain as plain data: Services, EndpointSlices, Nodes and what is derived from them,
 * with pure functions over them. No I/O, no Node modules, no imports from the rest of `src`.
 * Kubernetes terms mean exactly what they mean in the Kubernetes API; see docs/architecture.md for the others.
 *
 * Read next: `service.ts`, `endpoint.ts`, then `catalog/`.
 *
 * @module
 */
export * from './destination-rule.ts'
export * from './endpoint.ts'
export * from './gateway.ts'
export * from './ip.ts'
export * from './object-report.ts'
export * from './pod.ts'
export * from './secret.ts'
export * from './service.ts'
export * from './virtual-service.ts'
