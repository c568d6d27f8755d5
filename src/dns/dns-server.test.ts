import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type DecodedPacket,
  decode,
  encode,
  type Packet,
  type Answer as PacketAnswer,
  type RecordType,
} from 'dns-packet'
import { type Catalog, createCatalog } from '../catalog/index.ts'
import { exchangeDatagram, exchangeMessage, openDatagramSocket, startMessageServer } from '../net/index.ts'
import { createMetrics, type Metrics, silentLogger } from '../observability/index.ts'
import { createSampleCluster } from './cluster.fixture.ts'
import { dnsSchema } from './config.ts'
import { DnsListenError, type DnsServer, startDns } from './index.ts'

const address = '127.0.0.1'
const edns: PacketAnswer = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: 1232,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
}

interface StartOptions {
  readonly upstreams?: readonly string[]
  readonly catalog?: Catalog
  readonly metrics?: Metrics
  readonly ownAddresses?: () => readonly string[]
  readonly port?: number
}

function start({
  upstreams = ['127.0.0.1:1'],
  catalog = createSampleCluster(),
  metrics = createMetrics(),
  port = 0,
  ownAddresses = () => [],
}: StartOptions = {}): Promise<DnsServer> {
  const config = dnsSchema.parse({ upstreamServers: upstreams })
  return startDns({
    config,
    address,
    port,
    catalog,
    metrics,
    logger: silentLogger,
    ownAddresses,
    upstreamTimeoutMs: 300,
  })
}

let lastId = 0

/** Asks as a client would; the id of the answer is checked here. */
async function ask(
  server: DnsServer,
  name: string,
  {
    type = 'A',
    tcp = false,
    timeoutMs = 2500,
    ...packet
  }: { type?: RecordType; tcp?: boolean; timeoutMs?: number } & Omit<Packet, 'type'> = {},
): Promise<DecodedPacket & { readonly rcode: string }> {
  const id = ++lastId
  const message = encode({ type: 'query', id, flags: 0x100, questions: [{ type, name }], ...packet })
  const exchange = tcp ? exchangeMessage : exchangeDatagram
  const options = { timeoutMs, signal: new AbortController().signal, accept: () => true }
  const answer = decode(await exchange({ address, port: server.status().port }, message, options))
  assert.equal(answer.id, id)
  return answer as DecodedPacket & { readonly rcode: string }
}

const dataOf = ({ answers = [] }: DecodedPacket) =>
  answers.map((record) => ('data' in record ? record.data : undefined))

/** A resolver of the wide world that answers every A question, or as `respond` says; undefined is silence. */
async function startUpstream(
  respond: (name: string, tcp: boolean, query: DecodedPacket) => Partial<Packet> | undefined = () => ({}),
) {
  await using starting = new AsyncDisposableStack()
  const seen: string[] = []
  const answer = (message: Buffer, tcp: boolean): Buffer | undefined => {
    const query = decode(message)
    const [question] = query.questions ?? []
    assert.ok(question)
    seen.push(`${tcp ? 'tcp' : 'udp'} ${question.name} ${question.type}`)
    const reply = respond(question.name, tcp, query)
    if (reply === undefined) return undefined
    const answers: PacketAnswer[] = [{ type: 'A', name: question.name, ttl: 60, data: '192.0.2.80' }]
    return encode({ type: 'response', id: query.id ?? 0, flags: 0x180, questions: [question], answers, ...reply })
  }
  const udp = starting.use(await openUpstreamSockets(answer))
  const running = starting.move()
  return { seen, name: `${address}:${udp.port}`, port: udp.port, [Symbol.asyncDispose]: () => running.disposeAsync() }
}

/** UDP and TCP on one port that the kernel chooses, which for the second may be taken. */
async function openUpstreamSockets(
  answer: (message: Buffer, tcp: boolean) => Buffer | undefined,
  attempts = 5,
): Promise<AsyncDisposable & { readonly port: number }> {
  const onMessage = (message: Buffer) => answer(message, true)
  const tcp = await startMessageServer({ address, port: 0, idleTimeoutMs: 1000, maxConnections: 10, onMessage })
  try {
    const udp = await openDatagramSocket({
      address,
      port: tcp.port,
      onMessage(message, from) {
        const reply = answer(message, false)
        if (reply !== undefined) udp.send(reply, from)
      },
      onError: assert.ifError,
    })
    const close = async () => void (await Promise.all([udp[Symbol.asyncDispose](), tcp[Symbol.asyncDispose]()]))
    return { port: tcp.port, [Symbol.asyncDispose]: close }
  } catch (error) {
    await tcp[Symbol.asyncDispose]()
    if (attempts === 1) throw error
    return openUpstreamSockets(answer, attempts - 1)
  }
}

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

test('other names are forwarded and then come from the cache, in the spelling of each client', async () => {
  await using upstream = await startUpstream()
  await using server = await start({ upstreams: [upstream.name] })
  const first = await ask(server, 'WWW.example.org')
  const second = await ask(server, 'www.EXAMPLE.org')
  assert.deepEqual([dataOf(first), dataOf(second)], [['192.0.2.80'], ['192.0.2.80']])
  assert.equal(second.questions?.[0]?.name, 'www.EXAMPLE.org')
  assert.deepEqual(upstream.seen, ['udp WWW.example.org A'])
  assert.deepEqual(server.status().upstreams, [upstream.name])
})

test('the same question from many clients at once goes upstream once', async () => {
  await using upstream = await startUpstream(() => ({ answers: [] }))
  await using server = await start({ upstreams: [upstream.name] })
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask(server, 'www.example.org')))
  assert.deepEqual(new Set(answers.map(({ rcode }) => rcode)), new Set(['NOERROR']))
  assert.equal(upstream.seen.length, 1)
})

test('reverse names that are not of the cluster are forwarded', async () => {
  await using upstream = await startUpstream(() => ({ flags: 0x183, answers: [] }))
  await using server = await start({ upstreams: [upstream.name] })
  assert.equal((await ask(server, '1.2.0.192.in-addr.arpa', { type: 'PTR' })).rcode, 'NXDOMAIN')
  assert.deepEqual(dataOf(await ask(server, '10.0.96.10.in-addr.arpa', { type: 'PTR' })), [
    'web.shop.svc.cluster.local',
  ])
  assert.equal(upstream.seen.length, 1)
})

test('a truncated answer is fetched again over TCP, and a client on TCP is served over TCP', async () => {
  await using upstream = await startUpstream((_name, tcp) => (tcp ? {} : { flags: 0x380, answers: [] }))
  await using server = await start({ upstreams: [upstream.name] })
  assert.deepEqual(dataOf(await ask(server, 'a.example.org', { additionals: [edns] })), ['192.0.2.80'])
  assert.deepEqual(dataOf(await ask(server, 'b.example.org', { tcp: true })), ['192.0.2.80'])
  assert.deepEqual(upstream.seen, ['udp a.example.org A', 'tcp a.example.org A', 'tcp b.example.org A'])
})

test('a dead upstream costs one refusal; from then on the live one is asked first', async () => {
  await using upstream = await startUpstream()
  await using server = await start({ upstreams: ['127.0.0.1:1', upstream.name] })
  assert.deepEqual(dataOf(await ask(server, 'a.example.org')), ['192.0.2.80'])
  assert.deepEqual(dataOf(await ask(server, 'b.example.org')), ['192.0.2.80'])
  assert.equal(upstream.seen.length, 2)
})

test('an upstream that is silent is left after its time, while cluster names are answered at once', async () => {
  await using silent = await startUpstream(() => undefined)
  await using upstream = await startUpstream()
  await using server = await start({ upstreams: [silent.name, upstream.name] })
  const waiting = ask(server, 'a.example.org')
  assert.deepEqual(dataOf(await ask(server, 'web.shop.svc.cluster.local')), ['10.96.0.10'])
  assert.equal(upstream.seen.length, 0)
  assert.deepEqual(dataOf(await waiting), ['192.0.2.80'])
})

test('an upstream that fails or refuses is passed over; when all do, its word is the answer', async () => {
  await using failing = await startUpstream(() => ({ flags: 0x185, answers: [] }))
  await using upstream = await startUpstream((name) => (name.startsWith('a') ? {} : { flags: 0x182, answers: [] }))
  await using server = await start({ upstreams: [failing.name, upstream.name] })
  assert.deepEqual(dataOf(await ask(server, 'a.example.org')), ['192.0.2.80'])
  assert.equal((await ask(server, 'b.example.org')).rcode, 'REFUSED')
})

test('answers that do not match the question are not taken', async () => {
  await using liar = await startUpstream(() => ({ questions: [{ type: 'A', name: 'other.example.org' }] }))
  await using upstream = await startUpstream()
  await using server = await start({ upstreams: [liar.name, upstream.name] })
  assert.deepEqual(dataOf(await ask(server, 'a.example.org')), ['192.0.2.80'])
  assert.equal(upstream.seen.length, 1)
})

test('without any usable upstream other names fail at once', async () => {
  await using probe = await startUpstream()
  const { port } = probe
  await probe[Symbol.asyncDispose]()
  await using server = await start({
    port,
    upstreams: [`127.0.0.1:${port}`, `127.0.0.2:${port}`],
    ownAddresses: () => ['127.0.0.2'],
  })
  const started = performance.now()
  assert.equal((await ask(server, 'www.example.org')).rcode, 'SERVFAIL')
  assert.ok(performance.now() - started < 1000)
  assert.deepEqual(server.status().upstreams, [])
})

test('an ExternalName outside the cluster is completed by what upstream says of it', async () => {
  await using upstream = await startUpstream()
  await using server = await start({ upstreams: [upstream.name] })
  const answer = await ask(server, 'to-outside.shop.svc.cluster.local')
  assert.deepEqual(
    answer.answers?.map(({ name, type }) => `${name} ${type}`),
    ['to-outside.shop.svc.cluster.local CNAME', 'www.example.org A'],
  )
  assert.deepEqual(upstream.seen, ['udp www.example.org A'])
  await using alone = await start()
  const failed = await ask(alone, 'to-outside.shop.svc.cluster.local')
  assert.deepEqual([failed.rcode, dataOf(failed)], ['SERVFAIL', ['www.example.org']])
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
