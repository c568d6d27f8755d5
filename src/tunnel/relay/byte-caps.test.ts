import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteCaps } from './byte-caps.ts'

const midnight = Date.parse('2026-03-01T00:00:00Z')
const pair = ['a', 'b'] as const

test('what comes from either end counts for both nodes, once', () => {
  const caps = new ByteCaps({ bytesPerNodeAndDay: 100 })
  const streams = [{ bytesRead: 40 }, { bytesRead: 0 }]
  const countAll = () => {
    for (const stream of streams) caps.count(pair, stream)
  }
  countAll()
  countAll()
  assert.equal(caps.spent.size, 0)
  streams[1] = { bytesRead: 59 }
  countAll()
  assert.equal(caps.refusalOf('a'), undefined, '99 bytes')
  caps.count(['a', 'c'], { bytesRead: 1 })
  assert.deepEqual([...caps.spent.keys()], ['a'])
})

test('a node that has used what it may is told how much that was and until when', () => {
  const caps = new ByteCaps({ bytesPerNodeAndDay: 2e9 }, () => midnight + 3_600_000)
  caps.count(pair, { bytesRead: 2e9 })
  assert.equal(
    caps.refusalOf('b'),
    'it has used the 2 GB a day that this relay carries for a node (edgeTunnel.relay.bytesPerNodeAndDay there), until 2026-03-02T00:00Z',
  )
})

test('the next day begins with nothing, also for connections that last', () => {
  let nowMs = midnight
  const caps = new ByteCaps({ bytesPerNodeAndDay: 100 }, () => nowMs)
  const stream = { bytesRead: 100 }
  caps.count(pair, stream)
  assert.equal(caps.spent.size, 2)
  nowMs += 24 * 3_600_000
  assert.equal(caps.spent.size, 0)
  stream.bytesRead = 150
  caps.count(pair, stream)
  assert.equal(caps.spent.size, 0)
  stream.bytesRead = 200
  caps.count(pair, stream)
  assert.equal(caps.spent.size, 2)
})

test('a cap that is set later holds for what was used before, and none is none', () => {
  const caps = new ByteCaps({ bytesPerNodeAndDay: 0 })
  caps.count(pair, { bytesRead: 1e12 })
  assert.equal(caps.spent.size, 0)
  caps.set({ bytesPerNodeAndDay: 1e6 })
  assert.match(caps.refusalOf('a') ?? '', /the 1 MB a day/)
})
