/**
 * Byte streams and who makes them: dialling, listening, copying both ways with half-close, and in-memory fakes.
 * It knows addresses and ports, nothing of Services or peers.
 *
 * Read next: `dialer.ts`, `splice.ts`.
 *
 * @module
 */
export * from './dialer.ts'
