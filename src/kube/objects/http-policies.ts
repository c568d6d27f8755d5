import {
  type CorsPolicy,
  type FaultInjection,
  type HeaderChanges,
  type HeaderOperations,
  type RetryCondition,
  type RetryPolicy,
  retryConditions,
} from '../../model/index.ts'
import type { Field } from './field.ts'
import { parseDurationMs } from './go-duration.ts'
import { parseStringMatch } from './http-match.ts'
import type { Notes } from './notes.ts'
import { headerValue } from './wire-text.ts'

/** `headers` of a rule or destination. */
export function parseHeaderChanges(field: Field, notes: Notes): HeaderChanges {
  notes.checkKeys(field, ['request', 'response'])
  return {
    request: parseOperations(field.at('request'), notes),
    response: parseOperations(field.at('response'), notes),
  }
}

function parseOperations(field: Field, notes: Notes): HeaderOperations {
  notes.checkKeys(field, ['set', 'add', 'remove'])
  return {
    set: parseHeaders(field.at('set'), notes),
    add: parseHeaders(field.at('add'), notes),
    remove: field
      .at('remove')
      .items()
      .map((item) => headerName(item, item.text())),
  }
}

/** They tell where a message ends, or are about one connection: the gateway's, whatever a rule wants. */
const framingNames: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

function parseHeaders(field: Field, notes: Notes): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const key of field.keys()) {
    const item = field.at(key)
    const name = headerName(item, key)
    if (framingNames.has(name)) notes.ignore(item, 'has no effect; it is about one connection')
    else headers[name] = headerValue(item)
  }
  return headers
}

/** `:authority` and `host` both mean whom the request is for; other names with a colon are not for rules to touch. */
function headerName(field: Field, text: string): string {
  const name = text.toLowerCase()
  if (name === ':authority') return 'host'
  if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) throw field.error('must be named by a header')
  return name
}

/** `{ value: 12.5 }`; undefined when absent. */
export function parsePercent(field: Field): number | undefined {
  if (field.isAbsent) return undefined
  return field.at('value').number(0, 100) ?? 0
}

/** `fault`; undefined when absent. */
export function parseFault(field: Field, notes: Notes): FaultInjection | undefined {
  if (field.isAbsent) return undefined
  notes.checkKeys(field, ['delay', 'abort'])
  const delay = field.at('delay')
  const abort = field.at('abort')
  notes.checkKeys(delay, ['percentage', 'percent', 'fixedDelay', 'exponentialDelay'])
  notes.checkKeys(abort, ['percentage', 'percent', 'httpStatus', 'grpcStatus', 'http2Error'])
  notes.ignore(delay.at('exponentialDelay'), 'has no effect; use fixedDelay')
  notes.ignore(abort.at('http2Error'), 'has no effect; use httpStatus')
  return {
    ...(delay.isAbsent
      ? {}
      : { delay: { percent: faultPercent(delay, notes), delayMs: parseDurationMs(delay.at('fixedDelay')) ?? 0 } }),
    ...(abort.isAbsent ? {} : { abort: { percent: faultPercent(abort, notes), ...parseAbortStatus(abort) } }),
  }
}

function faultPercent(field: Field, notes: Notes): number {
  const percent = parsePercent(field.at('percentage')) ?? field.at('percent').integer(0, 100)
  if (percent === undefined) notes.ignored.push(`${field.where}: has no effect without a percentage`)
  return percent ?? 0
}

const grpcStatuses = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
]

function parseAbortStatus(abort: Field): { readonly status: number; readonly grpcStatus?: number } {
  const grpc = abort.at('grpcStatus')
  if (grpc.isAbsent) {
    const status = abort.at('httpStatus').integer(200, 599)
    if (status === undefined) throw abort.at('httpStatus').error('is missing')
    return { status }
  }
  const grpcStatus = /^\d+$/.test(grpc.text()) ? Number(grpc.text()) : grpcStatuses.indexOf(grpc.text().toUpperCase())
  if (grpcStatus < 0 || grpcStatus >= grpcStatuses.length) throw grpc.error('must be a gRPC status such as UNAVAILABLE')
  return { status: 200, grpcStatus }
}

/** `retries`; undefined when absent. */
export function parseRetries(field: Field, notes: Notes): RetryPolicy | undefined {
  if (field.isAbsent) return undefined
  notes.checkKeys(field, [
    'attempts',
    'perTryTimeout',
    'retryOn',
    'retryRemoteLocalities',
    'retryIgnorePreviousHosts',
    'backoff',
  ])
  notes.ignore(field.at('retryRemoteLocalities'), 'has no effect; every endpoint is tried, near ones first')
  notes.ignore(field.at('retryIgnorePreviousHosts'), 'has no effect; another endpoint is always tried first')
  notes.ignore(field.at('backoff'), 'has no effect; the pause grows from 25 ms')
  const perTryTimeoutMs = parseDurationMs(field.at('perTryTimeout'))
  return {
    attempts: field.at('attempts').integer(0, 1000) ?? 0,
    ...(perTryTimeoutMs === undefined || perTryTimeoutMs === 0 ? {} : { perTryTimeoutMs }),
    ...parseRetryOn(field.at('retryOn'), notes),
  }
}

/** What is retried when the object does not say, as in Istio. */
export const usualConditions: readonly RetryCondition[] = [
  'connect-failure',
  'refused-stream',
  'unavailable',
  'cancelled',
]

function parseRetryOn(field: Field, notes: Notes): Pick<RetryPolicy, 'conditions' | 'statuses'> {
  const words = field
    .text()
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '')
  if (words.length === 0) return { conditions: [...usualConditions, 'retriable-status-codes'], statuses: [503] }
  const statuses = words.filter((word) => /^[2-5]\d\d$/.test(word)).map(Number)
  const conditions = retryConditions.filter((condition) => words.includes(condition))
  const unknown = words.filter((word) => !/^[2-5]\d\d$/.test(word) && !conditions.some((known) => known === word))
  if (unknown.length > 0) notes.ignored.push(`${field.where}: ${unknown.join(', ')} has no effect`)
  if (statuses.length > 0 && !conditions.includes('retriable-status-codes')) conditions.push('retriable-status-codes')
  return { conditions, statuses }
}

/** `corsPolicy`; undefined when absent. */
export function parseCors(field: Field, notes: Notes): CorsPolicy | undefined {
  if (field.isAbsent) return undefined
  notes.checkKeys(field, [
    'allowOrigin',
    'allowOrigins',
    'allowMethods',
    'allowHeaders',
    'exposeHeaders',
    'maxAge',
    'allowCredentials',
    'unmatchedPreflights',
  ])
  const maxAgeMs = parseDurationMs(field.at('maxAge'))
  const origins = field
    .at('allowOrigins')
    .items()
    .map((item) => {
      const match = parseStringMatch(item)
      if (match === undefined) throw item.error('must have one of exact, prefix and regex')
      return match
    })
  const old = textsOf(field.at('allowOrigin')).map((value) => {
    return value === '*' ? { kind: 'prefix' as const, value: '' } : { kind: 'exact' as const, value }
  })
  return {
    origins: [...origins, ...old].map((match) => {
      return match.kind === 'exact' && match.value === '*' ? { kind: 'prefix' as const, value: '' } : match
    }),
    methods: textsOf(field.at('allowMethods')),
    headers: textsOf(field.at('allowHeaders')),
    exposeHeaders: textsOf(field.at('exposeHeaders')),
    ...(maxAgeMs === undefined ? {} : { maxAgeSeconds: Math.floor(maxAgeMs / 1000) }),
    allowCredentials: field.at('allowCredentials').flag(false),
    unmatchedPreflights: field.at('unmatchedPreflights').text() === 'IGNORE' ? 'ignore' : 'forward',
  }
}

function textsOf(field: Field): string[] {
  return field.items().map(headerValue)
}
