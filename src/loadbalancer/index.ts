/**
 * Which backend a connection is tried on first, and which next: policies over a list of backends, with a short memory
 * of failed dials. Pure: the clock and randomness are passed in, and it dials nothing itself.
 *
 * Read next: `balancer.ts`.
 *
 * @module
 */
export * from './balancer.ts'
