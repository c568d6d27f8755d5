import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type RetryCondition, type RetryPolicy, retryConditions } from '../../model/index.ts'
import type { ResponseHead } from '../http/head.ts'
import { HeaderFields } from '../http/header-fields.ts'
import { UpstreamError, type UpstreamFailure } from '../http/upstream.ts'
import { type AttemptOutcome, isIdempotent, retryPauseMs, wantsRetry } from './retry.ts'

const failed = (failure: UpstreamFailure): AttemptOutcome => ({ kind: 'error', error: new UpstreamError(failure, '') })

function answered(status: number, fields: Readonly<Record<string, string>> = {}): AttemptOutcome {
  const headers = HeaderFields.of(fields)
  const head: ResponseHead = { status, reason: '', headers, body: { kind: 'none' }, closes: false }
  return { kind: 'head', head }
}

const grpc = (status: number) => answered(200, { 'content-type': 'application/grpc', 'grpc-status': String(status) })

/** For each outcome the conditions that ask for another attempt; all others do not. */
const outcomes: Readonly<Record<string, readonly [AttemptOutcome, readonly RetryCondition[]]>> = {
  'nobody was reached': [
    { kind: 'unreachable' },
    ['5xx', 'gateway-error', 'reset', 'reset-before-request', 'connect-failure'],
  ],
  'the backend refused the stream': [
    failed('refused'),
    ['5xx', 'gateway-error', 'reset', 'reset-before-request', 'refused-stream'],
  ],
  'the connection broke before the answer': [failed('reset-before-answer'), ['5xx', 'gateway-error', 'reset']],
  'the connection broke within the answer': [failed('reset'), ['5xx', 'gateway-error', 'reset']],
  'the answer is no HTTP': [failed('bad-answer'), ['5xx', 'gateway-error', 'reset']],
  'the attempt took too long': [{ kind: 'timeout' }, ['5xx', 'gateway-error', 'reset']],
  'the answer is 200': [answered(200), []],
  'the answer is 404': [answered(404), []],
  'the answer is 409': [answered(409), ['retriable-4xx']],
  'the answer is 418, which the rule lists': [answered(418), ['retriable-status-codes']],
  'the answer is 500': [answered(500), ['5xx']],
  'the answer is 501': [answered(501), ['5xx']],
  'the answer is 502': [answered(502), ['5xx', 'gateway-error']],
  'the answer is 503': [answered(503), ['5xx', 'gateway-error']],
  'the answer is 504': [answered(504), ['5xx', 'gateway-error']],
  'the call was fine': [grpc(0), []],
  'the call was cancelled': [grpc(1), ['cancelled']],
  'the call was wrong': [grpc(3), []],
  'the call took too long': [grpc(4), ['deadline-exceeded']],
  'the call found a limit': [grpc(8), ['resource-exhausted']],
  'the call found a bug': [grpc(13), ['internal']],
  'the call found nobody': [grpc(14), ['unavailable']],
  'the call has an odd status': [answered(200, { 'grpc-status': 'constructor' }), []],
}

suite('a rule asks for another attempt', () => {
  for (const [name, [outcome, conditions]] of Object.entries(outcomes)) {
    test(`with ${conditions.join(', ') || 'nothing'} after ${name}`, () => {
      const asking = retryConditions.filter((condition) => {
        return wantsRetry({ attempts: 1, conditions: [condition], statuses: [418] }, outcome)
      })
      assert.deepEqual(asking.toSorted(), conditions.toSorted())
      assert.equal(wantsRetry(undefined, outcome), false)
      assert.equal(wantsRetry({ attempts: 1, conditions: [], statuses: [418] }, outcome), false)
    })
  }

  test('with any of several conditions', () => {
    const policy: RetryPolicy = { attempts: 1, conditions: ['retriable-4xx', 'unavailable'], statuses: [] }
    assert.deepEqual(
      [answered(409), grpc(14), answered(503)].map((outcome) => wantsRetry(policy, outcome)),
      [true, true, false],
    )
  })

  test('with statuses that it lists, and no others', () => {
    const policy: RetryPolicy = { attempts: 1, conditions: ['retriable-status-codes'], statuses: [403, 503] }
    assert.deepEqual(
      [403, 404, 500, 503].map((status) => wantsRetry(policy, answered(status))),
      [true, false, false, true],
    )
  })
})

suite('another attempt', () => {
  test('waits longer each time, up to a limit', () => {
    assert.deepEqual(
      [1, 2, 3, 4, 5, 50].map((attempt) => retryPauseMs(attempt, () => 1)),
      [25, 50, 100, 200, 250, 250],
    )
  })

  test('waits for half of that or more, so that many do not come at once', () => {
    assert.equal(
      retryPauseMs(1, () => 0),
      12.5,
    )
    assert.equal(
      retryPauseMs(9, () => 0),
      125,
    )
  })

  test('is safe for some methods without being asked for', () => {
    const methods = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'POST', 'PATCH', 'get', 'CONNECT']
    assert.deepEqual(methods.filter(isIdempotent), ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])
  })
})
