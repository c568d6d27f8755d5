import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exchangeDatagram, openDatagramSocket } from '../net/index.ts'
import { createMetrics } from '../observability/index.ts'
import { address, ask, dataOf, edns, start, startUpstream } from './server.fixture.ts'

const soa = {
  mname: 'ns.example.org',
  rname: 'hostmaster.example.org',
  serial: 1,
  refresh: 3600,
  retry: 600,
  expire: 86_400,
  minimum: 60,
}

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

test('a question for a stub domain goes to its own resolvers, the longest domain first', async () => {
  await using everything = await startUpstream()
  await using corp = await startUpstream()
  await using lab = await startUpstream()
  const stubDomains = [
    { domain: 'corp.example', servers: [corp.name] },
    { domain: 'lab.corp.example', servers: [lab.name] },
  ]
  await using server = await start({ upstreams: [everything.name], config: { stubDomains } })
  for (const name of ['a.corp.example', 'Corp.Example', 'a.LAB.corp.example', 'notcorp.example']) {
    assert.deepEqual(dataOf(await ask(server, name)), ['192.0.2.80'], name)
  }
  assert.deepEqual(corp.seen, ['udp a.corp.example A', 'udp Corp.Example A'])
  assert.deepEqual(lab.seen, ['udp a.LAB.corp.example A'])
  assert.deepEqual(everything.seen, ['udp notcorp.example A'])
})

test('with upstreams away, what was known is told with a short time, and the rest fails', async () => {
  let isAway = false
  await using upstream = await startUpstream((name) => {
    if (isAway) return undefined
    const [ttl, flags] = [1, name.startsWith('none') ? 0x183 : 0x180]
    return name.startsWith('none')
      ? { flags, answers: [], authorities: [{ type: 'SOA', name: 'example.org', ttl, data: soa }] }
      : { answers: [{ type: 'A', name, ttl, data: '192.0.2.80' }] }
  })
  const metrics = createMetrics()
  await using server = await start({ upstreams: [upstream.name], metrics })
  await ask(server, 'www.example.org')
  await ask(server, 'none.example.org')
  isAway = true
  await new Promise((resolve) => setTimeout(resolve, 1100))
  const stale = await ask(server, 'www.example.org')
  assert.deepEqual([dataOf(stale), stale.answers?.[0]?.type === 'A' && stale.answers[0].ttl], [['192.0.2.80'], 30])
  assert.equal((await ask(server, 'none.example.org')).rcode, 'NXDOMAIN')
  assert.equal((await ask(server, 'new.example.org', { timeoutMs: 8000 })).rcode, 'SERVFAIL')
  assert.match(await metrics.render(), /dns_queries_total\{via="stale"\} 2/)
  isAway = false
  assert.deepEqual(dataOf(await ask(server, 'new.example.org')), ['192.0.2.80'])
})

test('that there is none of a name is remembered for as long as its zone says', async () => {
  await using upstream = await startUpstream(() => ({
    flags: 0x183,
    answers: [],
    authorities: [{ type: 'SOA', name: 'example.org', ttl: 300, data: soa }],
  }))
  await using server = await start({ upstreams: [upstream.name] })
  for (let count = 0; count < 3; count++) assert.equal((await ask(server, 'none.example.org')).rcode, 'NXDOMAIN')
  assert.equal((await ask(server, 'none.example.org', { type: 'AAAA' })).rcode, 'NXDOMAIN')
  assert.deepEqual(upstream.seen, ['udp none.example.org A', 'udp none.example.org AAAA'])
})

test('an upstream that sends questions back here is found and not asked, and the other one answers', async () => {
  await using upstream = await startUpstream()
  let target: number | undefined
  const loop = await openDatagramSocket({
    address,
    port: 0,
    // A forwarder that knows nobody but us: our question comes back as its own.
    onMessage(message, from) {
      if (target === undefined) return
      const options = { timeoutMs: 2000, signal: new AbortController().signal, accept: () => true }
      const answering = exchangeDatagram({ address, port: target }, message, options)
      answering.then(
        (answer) => loop.send(answer, from),
        () => undefined,
      )
    },
    onError: assert.ifError,
  })
  await using _loop = loop
  await using server = await start({ upstreams: [`${address}:${loop.port}`, upstream.name] })
  target = server.status().port
  const until = performance.now() + 20_000
  while (server.status().upstreams.length !== 1 && performance.now() < until) {
    await ask(server, `${performance.now()}.example.org`)
  }
  assert.deepEqual(server.status().upstreams, [upstream.name])
  assert.deepEqual(dataOf(await ask(server, 'www.example.org')), ['192.0.2.80'])
})

test('where datagrams do not get through, TCP is tried', async () => {
  await using upstream = await startUpstream((_name, tcp) => (tcp ? {} : undefined), false)
  await using server = await start({ upstreams: [upstream.name] })
  assert.deepEqual(dataOf(await ask(server, 'www.example.org')), ['192.0.2.80'])
  assert.deepEqual(upstream.seen, ['udp www.example.org A', 'tcp www.example.org A'])
})

test('in cache mode the DNS of the cluster is asked for everything, and we answer for it while it is away', async () => {
  let isAway = false
  await using clusterDns = await startUpstream(() => (isAway ? { flags: 0x182, answers: [] } : {}))
  await using other = await startUpstream()
  const cacheDNS = { enable: true, autoDetect: false, upstreamServers: [clusterDns.name], cacheTTL: 0 }
  await using server = await start({ upstreams: [other.name], config: { cacheDNS } })
  assert.deepEqual(dataOf(await ask(server, 'web.shop.svc.cluster.local')), ['192.0.2.80'])
  assert.deepEqual(dataOf(await ask(server, 'www.example.org')), ['192.0.2.80'])
  isAway = true
  assert.deepEqual(dataOf(await ask(server, 'web.shop.svc.cluster.local')), ['10.96.0.10'])
  assert.equal((await ask(server, 'www.example.org')).rcode, 'SERVFAIL')
  assert.equal(clusterDns.seen.length, 4)
  assert.deepEqual(other.seen, [])
})

test('in cache mode without any cluster DNS, names are answered and forwarded as usual', async () => {
  await using other = await startUpstream()
  await using server = await start({ upstreams: [other.name], config: { cacheDNS: { enable: true } } })
  assert.deepEqual(dataOf(await ask(server, 'web.shop.svc.cluster.local')), ['10.96.0.10'])
  assert.deepEqual(dataOf(await ask(server, 'www.example.org')), ['192.0.2.80'])
})

test('what is cached by the cache mode is cached for cacheTTL at most', async () => {
  await using clusterDns = await startUpstream()
  const cacheDNS = { enable: true, autoDetect: false, upstreamServers: [clusterDns.name], cacheTTL: 30 }
  await using server = await start({ config: { cacheDNS } })
  await ask(server, 'web.shop.svc.cluster.local')
  await ask(server, 'web.shop.svc.cluster.local')
  assert.equal(clusterDns.seen.length, 1)
})
