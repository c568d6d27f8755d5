/**
 * What operators see: structured logs, counters and gauges, and the readiness list. Interfaces that every
 * folder may take as an option, with one implementation each. Field names of log lines are listed in `fields.ts`.
 *
 * Read next: `logger.ts`, `metrics.ts`, `health.ts`.
 *
 * @module
 */
export * from './fields.ts'
export * from './health.ts'
export * from './logged-tasks.ts'
export * from './logger.ts'
export * from './metrics.ts'
export * from './seldom.ts'
