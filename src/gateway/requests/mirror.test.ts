import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createBalancer, type ResolvedPolicy } from '../../loadbalancer/index.ts'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { ConnectionPool } from '../backends/connection-pool.ts'
import type { BackendGroup } from '../backends/destinations.ts'
import { HeaderFields } from '../http/header-fields.ts'
import type { OutgoingRequest } from '../http/upstream.ts'
import { sampleService } from '../samples.ts'
import { mirrorRequest } from './mirror.ts'
import { until } from './sample-site.ts'

const ring = { partitionCount: 100, replicationFactor: 10, load: 1.25 }
const policy: ResolvedPolicy = { balancing: { kind: 'round-robin' }, readsRequests: false }
const post: OutgoingRequest = {
  method: 'POST',
  authority: 'shop.test:8080',
  target: '/a',
  headers: HeaderFields.of({ 'x-kept': '1' }),
  body: { kind: 'chunked' },
  isUpgrade: false,
}

/** A destination with one backend, and what arrives there; without a dial nobody answers. */
function createDestination({ isReached = true, reads = true } = {}) {
  const balancer = createBalancer(policy, { random: () => 0.5, nowMs: () => 0, ring })
  balancer.setPolicy(policy)
  balancer.setBackends([{ nodeName: 'edge', address: '10.0.0.1', port: 80 }], [])
  const group: BackendGroup = {
    id: 'shop/shadow:http/tcp',
    service: sampleService('shadow'),
    balancer,
    policy,
    protocol: 'http1',
    hasBackends: true,
  }
  let received = ''
  const far: ByteStream[] = []
  const pool = new ConnectionPool({
    dialer: {
      dial: async () => {
        if (!isReached) throw new Error('connect ECONNREFUSED')
        const [near, other] = createMemoryStreamPair()
        far.push(other)
        other.on('error', () => {})
        if (reads) {
          other.on('data', (chunk: Buffer) => {
            received += chunk.toString('latin1')
          })
        }
        return near
      },
    },
    nowMs: () => 0,
  })
  return { group, pool, far, received: () => received, [Symbol.dispose]: () => pool[Symbol.dispose]() }
}

suite('a copy of a request', () => {
  test('arrives whole under a name that tells it from the request', async () => {
    using site = createDestination()
    const copy = mirrorRequest(site.group, post, site.pool, 1000)
    copy.write(Buffer.from('he'))
    await until(() => site.received().includes('he'))
    copy.write(Buffer.from('llo'))
    copy.end(HeaderFields.of({ 'x-sum': '1' }))
    await until(() => site.received().endsWith('\r\n\r\n'))
    assert.match(site.received(), /^POST \/a HTTP\/1\.1\r\nhost: shop\.test-shadow:8080\r\nx-kept: 1\r\n/)
    assert.match(site.received(), /2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n$/)
  })

  test('leaves its connection for the next one once it is answered', async () => {
    using site = createDestination()
    const ask = () => mirrorRequest(site.group, { ...post, body: { kind: 'none' } }, site.pool, 1000).end()
    ask()
    await until(() => site.received().endsWith('\r\n\r\n'))
    site.far[0]?.write('HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno')
    const asked = () => site.received().split('POST').length - 1
    await until(() => site.pool.size === 1 && site.far[0]?.readableLength === 0)
    for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate)
    ask()
    await until(() => asked() === 2)
    assert.equal(site.far.length, 1)
  })

  test('never asks for WebSocket', async () => {
    using site = createDestination()
    mirrorRequest(
      site.group,
      { ...post, method: 'GET', body: { kind: 'none' }, isUpgrade: true },
      site.pool,
      1000,
    ).end()
    await until(() => site.received().endsWith('\r\n\r\n'))
    assert.doesNotMatch(site.received(), /upgrade/i)
  })

  test("is nobody's trouble when the destination is not reached", async () => {
    using site = createDestination({ isReached: false })
    const copy = mirrorRequest(site.group, post, site.pool, 1000)
    assert.equal(copy.write(Buffer.from('x')), true)
    await new Promise(setImmediate)
    assert.equal(copy.write(Buffer.from('y')), true)
    copy.end()
  })

  test('is given up when its destination takes it too slowly, instead of being kept in memory', async () => {
    using site = createDestination({ reads: false })
    const copy = mirrorRequest(site.group, post, site.pool, 1000)
    await until(() => site.far.length === 1)
    const chunk = Buffer.alloc(65_536)
    const far = site.far[0]
    for (let written = 0; written < 40; written++) {
      assert.equal(copy.write(chunk), true)
      await new Promise(setImmediate)
    }
    await until(() => far?.destroyed === true)
    assert.equal(site.pool.size, 0)
  })
})
