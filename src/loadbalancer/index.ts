/**
 * Which backends a connection may use, and which of them is tried first and which next: policies over a list of
 * backends, with a short memory of failed dials. Pure: the clock and randomness are passed in, and it dials nothing
 * itself.
 *
 * Read next: `resolve-policy.ts` (what holds for a ServicePort), `eligible-backends.ts`, `balancer.ts`.
 *
 * @module
 */
export * from './balancer.ts'
export type { Client } from './choose.ts'
export * from './eligible-backends.ts'
export { fillMaglevTable, type PartitionedRing } from './key-ring.ts'
export * from './resolve-policy.ts'
