import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ByteStream, createMemoryStreamPair, type Dialer } from '../../net/index.ts'
import { createUpstreamPool } from './upstream-pool.ts'

const never = new AbortController().signal
const web = { protocol: 'tcp', nodeName: 'edge', address: '10.0.0.1', port: 80 } as const

function createFixture() {
  const farEnds: ByteStream[] = []
  const dialer: Dialer = {
    dial() {
      const [near, far] = createMemoryStreamPair()
      far.on('error', () => {})
      farEnds.push(far)
      return Promise.resolve(near)
    },
  }
  const pool = createUpstreamPool(dialer)
  const open = async (target = web) => pool.upstreamOf(await pool.dialer.dial(target, never))
  return { pool, farEnds, open }
}

test('what was handed back is given out again, for the same backend only', async () => {
  const { open, farEnds, pool } = createFixture()
  const first = await open()
  assert.equal(first.isReused, false)
  first.keep()
  assert.notEqual((await open({ ...web, nodeName: 'other' } as never)).stream, first.stream)
  const again = await open()
  assert.equal(again.stream, first.stream)
  assert.equal(again.isReused, true)
  assert.equal((await open()).isReused, false)
  assert.equal(farEnds.length, 3)
  pool[Symbol.dispose]()
})

test('a kept connection that ends, fails or speaks unasked is not given out again', async () => {
  for (const happen of [
    (far: ByteStream) => far.end(),
    (far: ByteStream) => far.destroy(),
    (far: ByteStream) => far.write('unasked'),
  ]) {
    const { open, farEnds, pool } = createFixture()
    const first = await open()
    first.keep()
    happen(farEnds[0] as ByteStream)
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
    assert.equal((await open()).isReused, false)
    assert.equal(first.stream.destroyed, true)
    pool[Symbol.dispose]()
  }
})

test('kept connections are closed when their time is over', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { open } = createFixture()
  const first = await open()
  first.keep()
  context.mock.timers.tick(3_999)
  assert.equal(first.stream.destroyed, false)
  context.mock.timers.tick(1)
  assert.equal(first.stream.destroyed, true)
})

test('when one turns out to be gone the others to the same backend are closed', async () => {
  const { open } = createFixture()
  const [one, other, elsewhere] = [await open(), await open(), await open({ ...web, port: 81 } as never)]
  other.keep()
  elsewhere.keep()
  one.lost()
  assert.deepEqual([other.stream.destroyed, elsewhere.stream.destroyed], [true, false])
})

test('only so many are kept for one backend, and none after disposal', async () => {
  const { open, pool } = createFixture()
  const all = await Promise.all(Array.from({ length: 65 }, () => open()))
  for (const upstream of all) upstream.keep()
  assert.equal(all.filter(({ stream }) => stream.destroyed).length, 1)
  const late = await open({ ...web, port: 81 } as never)
  pool[Symbol.dispose]()
  late.keep()
  assert.ok([...all, late].every(({ stream }) => stream.destroyed))
})

test('a connection that is used again and again gathers no listeners', async () => {
  const { open, pool } = createFixture()
  const { stream, keep } = await open()
  keep()
  const kept = stream.listenerCount('error')
  for (let use = 0; use < 20; use++) (await open()).keep()
  assert.equal(stream.listenerCount('error'), kept)
  pool[Symbol.dispose]()
})
