import assert from 'node:assert/strict'
import { mkdtemp, mkdtempDisposable, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type LogFields, type Logger, silentLogger } from '../observability/index.ts'
import type { ForwardedResponse } from './forwarded-response.ts'
import { ResponseCache } from './response-cache.ts'
import { parseResolvConf, parseServer, Upstreams, type UpstreamsOptions } from './upstreams.ts'

function createUpstreams(changes: Partial<UpstreamsOptions>) {
  const clock = { now: 0 }
  const warnings: LogFields[] = []
  const changesSeen: number[] = []
  const logger: Logger = { ...silentLogger, warn: (fields) => warnings.push(fields) }
  const upstreams = new Upstreams({
    servers: [],
    resolvConf: '/nonexistent/resolv.conf',
    isOwn: () => false,
    logger,
    now: () => clock.now,
    onChange: () => changesSeen.push(clock.now),
    ...changes,
  })
  const order = async () => (await upstreams.inOrder()).map(({ address, port }) => `${address} ${port}`)
  return { upstreams, clock, warnings, changesSeen, order }
}

test('configured servers are taken in their order, with ports and IPv6', async () => {
  const { order, upstreams } = createUpstreams({
    servers: ['192.0.2.1', '192.0.2.2:5353', '[2001:db8::1]:54', '2001:db8::2'],
  })
  assert.deepEqual(await order(), ['192.0.2.1 53', '192.0.2.2 5353', '2001:db8::1 54', '2001:db8::2 53'])
  assert.deepEqual(upstreams.inUse.at(2), '[2001:db8::1]:54')
  assert.deepEqual(parseServer('[2001:db8::1]'), [{ address: '2001:db8::1', port: 53 }])
})

test('a server that failed is asked last for a while', async () => {
  const { order, upstreams, clock } = createUpstreams({ servers: ['192.0.2.1', '192.0.2.2'] })
  await order()
  upstreams.failed({ address: '192.0.2.1', port: 53 })
  assert.deepEqual(await order(), ['192.0.2.2 53', '192.0.2.1 53'])
  clock.now = 10_000
  assert.deepEqual(await order(), ['192.0.2.1 53', '192.0.2.2 53'])
  upstreams.failed({ address: '192.0.2.1', port: 53 })
  upstreams.answered({ address: '192.0.2.1', port: 53 })
  assert.deepEqual(await order(), ['192.0.2.1 53', '192.0.2.2 53'])
})

test('name servers are read from resolv.conf as libc reads it', () => {
  const text =
    '# nameserver 1.1.1.1\nsearch a b\nnameserver 192.0.2.1\n  nameserver\t192.0.2.2 # two\nnameserver fe80::1%eth0\nnameserver x\n'
  assert.deepEqual(
    parseResolvConf(text).map(({ address }) => address),
    ['192.0.2.1', '192.0.2.2', 'fe80::1%eth0'],
  )
})

test('the first questions all find the resolvers, also those that come while the file is read', async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), 'resolv-'))
  const resolvConf = join(directory.path, 'resolv.conf')
  await writeFile(resolvConf, 'nameserver 192.0.2.1\n')
  const { order, warnings } = createUpstreams({ resolvConf })
  assert.deepEqual(await Promise.all([order(), order(), order()]), Array(3).fill(['192.0.2.1 53']))
  assert.deepEqual(warnings, [])
})

test('the resolver file is read again when it changed, at most once a second', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'resolv-'))
  try {
    const resolvConf = join(directory, 'resolv.conf')
    const { order, clock, changesSeen, warnings } = createUpstreams({ resolvConf })
    assert.deepEqual(await order(), [])
    assert.equal(warnings.length, 2)
    await writeFile(resolvConf, 'nameserver 192.0.2.1\n')
    assert.deepEqual(await order(), [])
    clock.now = 1000
    assert.deepEqual(await order(), ['192.0.2.1 53'])
    await writeFile(resolvConf, 'nameserver 192.0.2.22\n')
    clock.now = 2000
    assert.deepEqual(await order(), ['192.0.2.22 53'])
    await rm(resolvConf)
    clock.now = 3000
    assert.deepEqual(await order(), ['192.0.2.22 53'])
    assert.deepEqual([changesSeen, warnings.length], [[0, 1000, 2000], 3])
  } finally {
    await rm(directory, { recursive: true })
  }
})

test('this very server is never its own upstream; when none is left that is said once', async () => {
  const own = new Set(['169.254.96.16'])
  const isOwn = ({ address, port }: { address: string; port: number }) => port === 53 && own.has(address)
  const { order, warnings, changesSeen } = createUpstreams({
    servers: ['169.254.96.16', '169.254.96.16:5353', '192.0.2.1'],
    isOwn,
  })
  assert.deepEqual(await order(), ['169.254.96.16 5353', '192.0.2.1 53'])
  const alone = createUpstreams({ servers: ['169.254.96.16'], isOwn })
  assert.deepEqual([await alone.order(), await alone.order()], [[], []])
  assert.deepEqual(
    alone.warnings.map(({ reason }) => reason),
    ['every configured name server is this one'],
  )
  own.add('192.0.2.1')
  assert.deepEqual(await order(), ['169.254.96.16 5353'])
  assert.deepEqual([warnings, changesSeen.length], [[], 2])
})

const responseFor = (ttlSeconds: number): ForwardedResponse => {
  return { message: Buffer.alloc(12), rcode: 0, isTruncated: false, ttlSeconds, records: [] }
}

test('a cached response ages, expires, and is never kept beyond the limit', () => {
  let now = 0
  const cache = new ResponseCache({ maxEntries: 2, maxSeconds: 60, now: () => now })
  const [short, long] = [responseFor(10), responseFor(3600)]
  cache.set('short', short)
  cache.set('long', long)
  cache.set('none', responseFor(0))
  now = 9_900
  assert.deepEqual(cache.get('short'), { response: short, ageSeconds: 9 })
  now = 10_000
  assert.equal(cache.get('short'), undefined)
  now = 59_000
  assert.deepEqual(cache.get('long'), { response: long, ageSeconds: 59 })
  now = 60_000
  assert.equal(cache.get('long'), undefined)
  assert.equal(cache.get('none'), undefined)
})

test('a full cache forgets what came first', () => {
  const cache = new ResponseCache({ maxEntries: 2, maxSeconds: 60, now: () => 0 })
  for (const key of ['a', 'b', 'a', 'c']) cache.set(key, responseFor(30))
  assert.deepEqual(
    ['a', 'b', 'c'].map((key) => cache.get(key) !== undefined),
    [true, false, true],
  )
  cache.clear()
  assert.equal(cache.get('a'), undefined)
})
