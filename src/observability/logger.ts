import { hostname } from 'node:os'
import pino from 'pino'
import type { LogFields } from './fields.ts'

/** The least severe level that is written. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** Writes one line per call: fields first, then a constant sentence. */
export interface Logger {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
  /** A logger whose lines also carry these fields. */
  child(fields: LogFields): Logger
}

const standardError = 2
/** What waits while the disk is full; further lines are lost. */
const mostWaiting = 65_536

/** JSON lines on standard error, written at once so that none is lost when the process ends. */
export function createLogger(
  level: LogLevel,
  nodeName: string = hostname(),
  fileDescriptor: number = standardError,
): Logger {
  const sink = pino.destination({ dest: fileDescriptor, sync: true, maxLength: mostWaiting })
  // Nowhere to tell it, and no reason to stop working; what waits is written with the next line.
  sink.on('error', () => {})
  const options = {
    level,
    base: { node: nodeName },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: describeError },
  }
  return wrap(pino(options, sink))
}

/** A logger that writes nothing, for tests. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
}

/** The messages of an error and its causes, outermost first, as one line: `Cannot A: Cannot B: ECONNREFUSED`. */
export function describeError(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return `${error.message}: ${error.errors.map(describeError).join('; ')}`
  }
  if (!(error instanceof Error)) return String(error)
  const message = error.message === '' ? error.name : error.message
  if (error.cause === undefined) return message
  const cause = describeError(error.cause)
  return message.includes(cause) ? message : `${message}: ${cause}`
}

function wrap(target: pino.Logger): Logger {
  return {
    debug: (fields, message) => target.debug(fields, message),
    info: (fields, message) => target.info(fields, message),
    warn: (fields, message) => target.warn(fields, message),
    error: (fields, message) => target.error(fields, message),
    child: (fields) => wrap(target.child(fields)),
  }
}
