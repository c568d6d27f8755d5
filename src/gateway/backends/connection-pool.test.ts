import assert from 'node:assert/strict'
import { mock, suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { HeaderFields } from '../http/header-fields.ts'
import type { UpstreamConnection, UpstreamListener } from '../http/upstream.ts'
import { ConnectionPool } from './connection-pool.ts'

const backend = { nodeName: 'edge', address: '10.0.0.1', port: 8080 }
const other = { ...backend, address: '10.0.0.2' }
const never = new AbortController().signal

function createFixture() {
  const far: ByteStream[] = []
  let nowMs = performance.now()
  const pool = new ConnectionPool({
    nowMs: () => nowMs,
    dialer: {
      async dial() {
        const pair = createMemoryStreamPair()
        for (const stream of pair) stream.on('error', () => {})
        far.push(pair[1])
        return pair[0]
      },
    },
  })
  return {
    pool,
    far,
    advance: (durationMs: number) => {
      nowMs += durationMs
    },
    [Symbol.dispose]: () => pool[Symbol.dispose](),
  }
}

/** A pool whose dials are answered when a test says so. */
function createSlowFixture() {
  const dials: { readonly signal: AbortSignal; answer(): ByteStream }[] = []
  const pool = new ConnectionPool({
    nowMs: () => performance.now(),
    dialer: {
      async dial(_target, signal) {
        const { promise, resolve, reject } = Promise.withResolvers<ByteStream>()
        signal.addEventListener('abort', () => reject(signal.reason))
        dials.push({
          signal,
          answer() {
            const pair = createMemoryStreamPair()
            for (const stream of pair) stream.on('error', () => {})
            resolve(pair[0])
            return pair[0]
          },
        })
        return await promise
      },
    },
  })
  return { pool, dials, [Symbol.dispose]: () => pool[Symbol.dispose]() }
}

/** Sends a request and has it answered, after which the connection is idle. */
async function use(connection: UpstreamConnection, far: ByteStream | undefined, fields = ''): Promise<void> {
  const done = Promise.withResolvers<void>()
  const listener: UpstreamListener = {
    onInformational() {},
    onHead() {},
    onData() {},
    onUpgrade() {},
    onDrain() {},
    onEnd: () => done.resolve(),
    onError: (error) => done.reject(error),
  }
  const head = { method: 'GET', authority: 'a', target: '/', headers: new HeaderFields(), isUpgrade: false }
  connection.send({ ...head, body: { kind: 'none' } }, listener).end()
  far?.write(`HTTP/1.1 204 No\r\n${fields}\r\n`)
  await done.promise
}

suite('connections to backends', () => {
  test('are kept for the next request to the same backend', async () => {
    using site = createFixture()
    const { pool, far } = site
    assert.equal(pool.take(backend, 'http1', 1_000), undefined)
    const connection = await pool.dial(backend, 'http1', never)
    assert.equal(pool.size, 1)
    await use(connection, far[0])
    assert.equal(pool.take(other, 'http1', 1_000), undefined)
    assert.equal(pool.take(backend, 'http1', 1_000), connection)
    assert.equal(pool.take(backend, 'http1', 1_000), undefined)
    connection.release()
    assert.equal(pool.take(backend, 'http1', 1_000), connection)
  })

  test('are not taken when they were idle for too long', async () => {
    using site = createFixture()
    await use(await site.pool.dial(backend, 'http1', never), site.far[0])
    site.advance(5_000)
    assert.equal(site.pool.take(backend, 'http1', 2_000), undefined)
    assert.notEqual(site.pool.take(backend, 'http1', 30_000), undefined)
  })

  test('are closed after a while, sooner when the backend says so', async () => {
    mock.timers.enable({ apis: ['setInterval'] })
    try {
      using site = createFixture()
      const hasty = await site.pool.dial(backend, 'http1', never)
      await use(hasty, site.far[0], 'Keep-Alive: timeout=5\r\n')
      await use(await site.pool.dial(other, 'http1', never), site.far[1])
      site.advance(4_500)
      mock.timers.tick(2_000)
      assert.equal(site.pool.size, 1)
      site.advance(30_000)
      mock.timers.tick(2_000)
      assert.equal(site.pool.size, 0)
    } finally {
      mock.timers.reset()
    }
  })

  test('are forgotten when the backend closes them, or is no longer wanted', async () => {
    using site = createFixture()
    await use(await site.pool.dial(backend, 'http1', never), site.far[0])
    site.far[0]?.destroy()
    for (let turns = 0; site.pool.size > 0 && turns < 50; turns++) await turn()
    assert.equal(site.pool.size, 0)
    await use(await site.pool.dial(backend, 'http1', never), site.far[1])
    const busy = await site.pool.dial(backend, 'http1', never)
    site.pool.keepOnly((id) => id !== 'edge/10.0.0.1:8080')
    assert.equal(site.pool.size, 1)
    await use(busy, site.far[2])
  })

  test('are shared by all requests where they speak HTTP/2, also by those that wait for the first one', async () => {
    using site = createFixture()
    const [one, two] = await Promise.all([1, 2].map(() => site.pool.dial(backend, 'http2', never)))
    assert.equal(one, two)
    assert.equal(site.far.length, 1)
    assert.equal(site.pool.take(backend, 'http2', 1_000), one)
    assert.equal(site.pool.take(backend, 'http1', 1_000), undefined)
    site.pool.keepOnly(() => false)
    assert.equal(site.pool.take(backend, 'http2', 1_000), undefined)
  })

  test('are made for all who wait, whoever of them gives up', async () => {
    using site = createSlowFixture()
    const [first, second] = [new AbortController(), new AbortController()]
    const given = site.pool.dial(backend, 'http2', first.signal)
    const kept = site.pool.dial(backend, 'http2', second.signal)
    first.abort(new Error('the client went away'))
    await assert.rejects(given, /the client went away/)
    assert.equal(site.dials[0]?.signal.aborted, false)
    site.dials[0]?.answer()
    assert.equal(await kept, site.pool.take(backend, 'http2', 1_000))
    assert.equal(site.dials.length, 1)
  })

  test('are no longer made when nobody waits for them', async () => {
    using site = createSlowFixture()
    const first = new AbortController()
    const given = site.pool.dial(backend, 'http2', first.signal)
    first.abort(new Error('the client went away'))
    await assert.rejects(given, /the client went away/)
    const next = site.pool.dial(backend, 'http2', never)
    assert.deepEqual(
      site.dials.map(({ signal }) => signal.aborted),
      [true, false],
    )
    for (let turns = 0; turns < 5; turns++) await turn()
    const shared = site.pool.dial(backend, 'http2', never)
    site.dials[1]?.answer()
    assert.equal(await next, await shared)
    assert.equal(site.dials.length, 2)
  })

  test('that come too late for the pool are closed', async () => {
    const site = createSlowFixture()
    const dials = [site.pool.dial(backend, 'http1', never), site.pool.dial(backend, 'http2', never)]
    site.pool[Symbol.dispose]()
    const far = site.dials.map(({ answer }) => answer())
    await Promise.all(dials.map((dial) => assert.rejects(dial, /the gateway stops/)))
    assert.deepEqual(
      far.map(({ destroyed }) => destroyed),
      [true, true],
    )
  })

  test('end with the pool', async () => {
    const site = createFixture()
    await use(await site.pool.dial(backend, 'http1', never), site.far[0])
    await site.pool.dial(backend, 'http1', never)
    site.pool[Symbol.dispose]()
    for (let turns = 0; turns < 10; turns++) await turn()
    assert.deepEqual(
      site.far.map(({ destroyed }) => destroyed),
      [true, true],
    )
  })
})
