/*
 * Messages that nobody in their right mind sends. EDGEMESH_FUZZ_COUNT sets how many of each kind; the seed is fixed, so
 * a failure comes back.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode, type Packet, type Answer as PacketAnswer } from 'dns-packet'
import { createMetrics, silentLogger } from '../observability/index.ts'
import { createSampleCluster } from './cluster.fixture.ts'
import { dnsSchema } from './config.ts'
import { answersQuery, parseForwarded, renderForwarded } from './forwarded-response.ts'
import { Forwarder } from './forwarder.ts'
import { parseQuery, udpLimitOf } from './query.ts'
import { Responder } from './responder.ts'
import { edns } from './server.fixture.ts'

const count = Number(process.env['EDGEMESH_FUZZ_COUNT'] ?? 10_000)

/** Numbers that are the same in each run. */
function createRandom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** A copy with bytes changed, cut off, put in or doubled. */
function mutate(message: Buffer, random: (below: number) => number): Buffer {
  let bytes = Buffer.from(message)
  for (let changes = random(5); changes > 0 && bytes.length > 0; changes--) {
    const at = random(bytes.length)
    const kind = random(8)
    if (kind === 0) bytes = bytes.subarray(0, at)
    else if (kind === 1)
      bytes = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(random(6), random(256)), bytes.subarray(at)])
    else if (kind === 2) bytes = Buffer.concat([bytes, bytes.subarray(at)])
    else if (kind === 3) bytes[at] = [0, 1, 63, 64, 0xc0, 0xc0 | random(2), 0xff][random(7)] ?? 0
    else bytes[at] = random(256)
  }
  return bytes
}

const questions = [
  ['web.shop.svc.cluster.local', 'A'],
  ['db.shop.svc.cluster.local', 'A'],
  ['_pg._tcp.db.shop.svc.cluster.local', 'SRV'],
  ['to-outside.shop.svc.cluster.local', 'A'],
  ['10.0.96.10.in-addr.arpa', 'PTR'],
  ['dns-version.cluster.local', 'TXT'],
  ['www.example.org', 'A'],
  ['cluster.local', 'SOA'],
] as const

const queries = questions.flatMap(([name, type]) =>
  [[], [edns], [{ ...edns, udpPayloadSize: 512, flag_do: true, flags: 0x8000 } as PacketAnswer]].map((additionals) =>
    encode({ type: 'query', id: 4711, flags: 0x100, questions: [{ name, type }], additionals }),
  ),
)

/** What every response to this message has, whatever is in it. */
function assertWellFormed(response: Buffer, message: Buffer, limitBytes: number): void {
  const context = message.toString('hex')
  assert.ok(response.length <= limitBytes, `${response.length} bytes to ${context}`)
  const packet = decode(response)
  assert.deepEqual([packet.id, packet.type], [message.readUInt16BE(0), 'response'], context)
  const asked = parseQuery(message)
  if ('name' in asked) assert.ok(response.subarray(12).indexOf(asked.question) === 0, context)
}

function limitOf(message: Buffer): number {
  const query = parseQuery(message)
  return 'name' in query ? udpLimitOf(query) : 512
}

test(`${count} damaged questions are answered in good form or dropped, twice the same`, async () => {
  using catalog = createSampleCluster()
  const metrics = createMetrics()
  const failures = metrics.counter('failures', 'Failures')
  const upstream = { servers: () => [], resolvConf: '/nonexistent', isOwn: () => true, failures, logger: silentLogger }
  await using forwarder = new Forwarder(upstream)
  const dns = {
    config: dnsSchema.parse({}),
    address: '169.254.96.16',
    catalog,
    metrics,
    forwarder,
    logger: silentLogger,
  }
  using responder = new Responder(dns)
  const random = createRandom(20_261)
  let answered = 0
  for (let run = 0; run < count; run++) {
    const message = mutate(queries[random(queries.length)] ?? Buffer.alloc(0), random)
    const limit = limitOf(message)
    for (let repeat = 0; repeat < 2; repeat++) {
      responder.answerDatagram(message, (response) => {
        answered++
        assertWellFormed(response, message, limit)
      })
    }
    const response = await responder.answerMessage(message)
    if (response !== undefined) assertWellFormed(response, message, 0xffff)
  }
  const text = await metrics.render()
  assert.doesNotMatch(text, /dns_dropped_total\{reason="internal"\}/)
  assert.ok(answered > count / 4, `only ${answered} answers`)
})

test(`${count} damaged responses of upstreams are passed on in good form or not taken`, () => {
  const random = createRandom(42)
  const name = 'www.example.org'
  const soa = { mname: 'ns.example.org', rname: 'hostmaster.example.org' }
  const packets: Packet[] = [
    { answers: Array.from({ length: 40 }, (_, index) => ({ type: 'A', name, ttl: 60, data: `192.0.2.${index}` })) },
    {
      answers: [
        { type: 'CNAME', name, ttl: 60, data: 'a.example.org' },
        { type: 'A', name: 'a.example.org', ttl: 1, data: '192.0.2.1' },
      ],
    },
    { flags: 0x8183, authorities: [{ type: 'SOA', name: 'example.org', ttl: 60, data: soa }], additionals: [edns] },
    { answers: [{ type: 'TXT', name, ttl: 60, data: ['x'.repeat(250), 'y'] }], additionals: [edns] },
  ]
  const responses = packets.map((packet) => {
    return encode({ type: 'response', id: 7, flags: 0x8180, questions: [{ type: 'A', name }], ...packet })
  })
  const query = parseQuery(encode({ type: 'query', id: 99, flags: 0x100, questions: [{ type: 'A', name }] }))
  assert.ok('name' in query)
  let taken = 0
  for (let run = 0; run < count; run++) {
    const message = mutate(responses[random(responses.length)] ?? Buffer.alloc(0), random)
    if (!answersQuery(message, query, 7)) continue
    const response = parseForwarded(message, query)
    if (response === undefined) continue
    taken++
    for (const limitBytes of [512, 1232, 0xffff]) {
      const options = { ageSeconds: random(100), isStale: random(2) === 0, limitBytes }
      const rendered = renderForwarded(response, query, options)
      const context = message.toString('hex')
      assert.ok(rendered.length <= Math.max(limitBytes, 12 + query.question.length), context)
      assert.equal(rendered.readUInt16BE(0), 99, context)
      assert.ok(parseForwarded(rendered, query) !== undefined, context)
    }
  }
  assert.ok(taken > count / 10, `only ${taken} were taken`)
})
