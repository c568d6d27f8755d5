import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode } from 'dns-packet'
import { createCatalog } from '../catalog/index.ts'
import { exchangeDatagram, exchangeMessage } from '../net/index.ts'
import { createMetrics, silentLogger } from '../observability/index.ts'
import { createSampleCluster } from './cluster.fixture.ts'
import { dnsSchema } from './config.ts'
import { DnsListenError, startDns } from './index.ts'
import { address, ask, dataOf, start, startUpstream } from './server.fixture.ts'

test('a Service is answered over UDP and TCP, with the case of the question kept', async () => {
  await using server = await start()
  for (const tcp of [false, true]) {
    const answer = await ask(server, 'WEB.shop.SVC.cluster.local', { tcp })
    assert.deepEqual([answer.rcode, answer.flag_aa, dataOf(answer)], ['NOERROR', true, ['10.96.0.10']])
    assert.deepEqual(
      [answer.questions?.[0]?.name, answer.answers?.[0]?.name],
      Array(2).fill('WEB.shop.SVC.cluster.local'),
    )
  }
})

test('names that are not there, and types that are not, are told apart and can be cached', async () => {
  await using server = await start()
  const none = await ask(server, 'nothing.shop.svc.cluster.local')
  const noData = await ask(server, 'web.shop.svc.cluster.local', { type: 'AAAA' })
  assert.deepEqual([none.rcode, noData.rcode], ['NXDOMAIN', 'NOERROR'])
  for (const answer of [none, noData]) assert.deepEqual([dataOf(answer), answer.authorities?.[0]?.type], [[], 'SOA'])
})

test('until the catalog is synced cluster names fail instead of not existing, and others are forwarded', async () => {
  await using upstream = await startUpstream()
  using catalog = createCatalog()
  await using server = await start({ catalog, upstreams: [upstream.name] })
  assert.equal((await ask(server, 'web.shop.svc.cluster.local')).rcode, 'SERVFAIL')
  assert.equal((await ask(server, 'www.example.org')).rcode, 'NOERROR')
  for (const kind of ['services', 'endpointSlices', 'nodes'] as const) catalog.replace(kind, [])
  assert.equal((await ask(server, 'web.shop.svc.cluster.local')).rcode, 'NXDOMAIN')
})

test('answers follow the catalog', async () => {
  const catalog = createSampleCluster()
  await using server = await start({ catalog })
  const { promise, resolve } = Promise.withResolvers<void>()
  catalog.subscribe(({ services }) => services.has('shop/web') || resolve())
  catalog.remove('services', 'shop/web')
  await promise
  assert.equal((await ask(server, 'web.shop.svc.cluster.local')).rcode, 'NXDOMAIN')
})

test('the order of headless answers changes from one to the next', async () => {
  await using server = await start()
  const orders = new Set<string>()
  for (let count = 0; count < 200 && orders.size < 2; count++)
    orders.add(dataOf(await ask(server, 'db.shop.svc.cluster.local')).join())
  assert.deepEqual([...orders].sort(), ['10.1.0.2,10.1.0.3', '10.1.0.3,10.1.0.2'])
})

test('an answer too large for UDP says so and comes whole over TCP', async () => {
  const catalog = createSampleCluster()
  const db = catalog.current.services.get('shop/db')
  const [slice] = (db && catalog.current.slicesOf(db)) ?? []
  assert.ok(slice?.endpoints[0])
  const [endpoint] = slice.endpoints
  const endpoints = Array.from({ length: 150 }, (_, index) => ({ ...endpoint, addresses: [`10.2.0.${index}`] }))
  const { promise, resolve } = Promise.withResolvers<void>()
  catalog.subscribe(({ sequence }) => sequence === 2 && resolve())
  catalog.put('endpointSlices', { ...slice, endpoints })
  await promise
  await using server = await start({ catalog })
  const udp = await ask(server, 'db.shop.svc.cluster.local')
  const tcp = await ask(server, 'db.shop.svc.cluster.local', { tcp: true })
  assert.deepEqual(
    [udp.flag_tc, dataOf(udp).length > 20, tcp.flag_tc, new Set(dataOf(tcp)).size],
    [true, true, false, 150],
  )
})

test('bad messages are dropped and counted, and the next question is answered', async () => {
  const metrics = createMetrics()
  await using server = await start({ metrics })
  const { port } = server.status()
  const silence = { timeoutMs: 50, signal: new AbortController().signal, accept: () => true }
  const bad = [
    Buffer.alloc(3),
    Buffer.alloc(0),
    encode({ type: 'response', id: 1, questions: [{ type: 'A', name: 'a' }] }),
  ]
  for (const message of bad)
    await assert.rejects(exchangeDatagram({ address, port }, message, silence), { code: 'ETIMEDOUT' })
  await assert.rejects(
    exchangeMessage({ address, port }, Buffer.alloc(3), { ...silence, timeoutMs: 5000 }),
    /closed|RESET/,
  )
  assert.equal((await ask(server, 'web.shop.svc.cluster.local')).rcode, 'NOERROR')
  const text = await metrics.render()
  assert.match(text, /dns_dropped_total\{reason="malformed"\} 3/)
  assert.match(text, /dns_dropped_total\{reason="response"\} 1/)
})

test('what we do not speak is refused by code', async () => {
  await using server = await start()
  const question = { type: 'A', name: 'web.shop.svc.cluster.local' } as const
  assert.equal((await ask(server, 'x', { flags: 4 << 11 })).rcode, 'NOTIMP')
  assert.equal((await ask(server, 'x', { questions: [question, question] })).rcode, 'FORMERR')
  assert.equal((await ask(server, 'x', { questions: [{ ...question, class: 'CH' }] })).rcode, 'REFUSED')
})

test('a taken port is an error that names address, port and remedy', async () => {
  await using server = await start()
  const { port } = server.status()
  await assert.rejects(start({ port }), (error) => {
    assert.ok(error instanceof DnsListenError)
    assert.deepEqual(
      [error.message, error.address, error.port],
      [`Cannot serve DNS on 127.0.0.1 port ${port}`, address, port],
    )
    assert.match(error.remedy, /systemd-resolved/)
    return true
  })
  await server[Symbol.asyncDispose]()
  await using again = await start({ port })
  assert.equal(again.status().port, port)
})

test('an address that is not on this node is an error with another remedy', async () => {
  const config = dnsSchema.parse({})
  const options = { config, address: '192.0.2.1', port: 0, catalog: createSampleCluster(), metrics: createMetrics() }
  await assert.rejects(startDns({ ...options, logger: silentLogger, ownAddresses: () => [] }), (error) => {
    assert.ok(error instanceof DnsListenError)
    assert.match(error.remedy, /bridgeDeviceIP/)
    return true
  })
})

test('stopping answers what is under way with a failure or nothing, and does not wait for upstreams', async () => {
  await using silent = await startUpstream(() => undefined)
  const server = await start({ upstreams: [silent.name] })
  const waiting = ask(server, 'www.example.org', { timeoutMs: 200 }).catch((error: unknown) => error)
  while (silent.seen.length === 0) await new Promise(setImmediate)
  const started = performance.now()
  await server[Symbol.asyncDispose]()
  assert.ok(performance.now() - started < 250)
  await waiting
})
