import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Logger, silentLogger } from '../observability/index.ts'
import { createRangeFullNotice } from './range-full-notice.ts'

test('that the range is full is logged once until there is room, and told with the number of now', () => {
  const counts: unknown[] = []
  const logger: Logger = { ...silentLogger, error: (fields) => void counts.push(fields['count']) }
  const notice = createRangeFullNotice('169.254.64.0/30', logger)
  assert.equal(notice.problem, undefined)
  notice.tell(3)
  notice.tell(2)
  assert.match(notice.problem ?? '', /^Cannot give 2 ServicePorts an address of 169\.254\.64\.0\/30/)
  assert.deepEqual(counts, [3])
  notice.tell(0)
  assert.equal(notice.problem, undefined)
  notice.tell(1)
  assert.deepEqual(counts, [3, 1])
})
