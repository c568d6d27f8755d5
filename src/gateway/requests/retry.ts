import type { RetryCondition, RetryPolicy } from '../../model/index.ts'
import type { ResponseHead } from '../http/head.ts'
import type { UpstreamError } from '../http/upstream.ts'

/** Why an attempt may not be the last one. */
export type AttemptOutcome =
  /** No backend could be reached. */
  | { readonly kind: 'unreachable' }
  | { readonly kind: 'error'; readonly error: UpstreamError }
  | { readonly kind: 'timeout' }
  | { readonly kind: 'head'; readonly head: ResponseHead }

const gatewayErrors: readonly number[] = [502, 503, 504]
const firstPauseMs = 25
const longestPauseMs = 250

/** Methods that do nothing more when they are done twice (RFC 9110 9.2.2). */
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

/** True for methods that may be repeated after a failure that leaves open whether the backend has seen them. */
export function isIdempotent(method: string): boolean {
  return idempotent.has(method)
}

/** True when a rule's policy wants another attempt after this outcome. */
export function wantsRetry(policy: RetryPolicy | undefined, outcome: AttemptOutcome): boolean {
  if (policy === undefined) return false
  switch (outcome.kind) {
    case 'unreachable':
      return unreachable.some((condition) => has(policy, condition))
    case 'error':
      return conditionsOf(outcome.error).some((condition) => has(policy, condition))
    case 'timeout':
      return has(policy, '5xx') || has(policy, 'gateway-error') || has(policy, 'reset')
    case 'head':
      return wantsRetryOfAnswer(policy, outcome.head)
    default:
      return outcome satisfies never
  }
}

/** The pause before a retry: doubles from 25 ms, of which a random part is waited. */
export function retryPauseMs(attempt: number, random: () => number): number {
  return Math.min(longestPauseMs, firstPauseMs * 2 ** (attempt - 1)) * (0.5 + random() / 2)
}

const unreachable: readonly RetryCondition[] = [
  '5xx',
  'gateway-error',
  'connect-failure',
  'reset',
  'reset-before-request',
]

function conditionsOf({ failure }: UpstreamError): readonly RetryCondition[] {
  switch (failure) {
    case 'refused':
      return ['5xx', 'gateway-error', 'refused-stream', 'reset', 'reset-before-request']
    case 'reset-before-answer':
    case 'reset':
    case 'bad-answer':
      return ['5xx', 'gateway-error', 'reset']
    default:
      return failure satisfies never
  }
}

const grpcConditions: Readonly<Record<string, RetryCondition>> = {
  '1': 'cancelled',
  '4': 'deadline-exceeded',
  '8': 'resource-exhausted',
  '13': 'internal',
  '14': 'unavailable',
}

function wantsRetryOfAnswer(policy: RetryPolicy, { status, headers }: ResponseHead): boolean {
  if (has(policy, '5xx') && status >= 500) return true
  if (has(policy, 'gateway-error') && gatewayErrors.includes(status)) return true
  if (has(policy, 'retriable-4xx') && status === 409) return true
  if (has(policy, 'retriable-status-codes') && policy.statuses.includes(status)) return true
  const grpc = grpcConditions[headers.get('grpc-status') ?? '']
  return grpc !== undefined && has(policy, grpc)
}

function has({ conditions }: RetryPolicy, condition: RetryCondition): boolean {
  return conditions.includes(condition)
}
