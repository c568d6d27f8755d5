import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DecodedPacket, decode, encode, type Packet, type Answer as PacketAnswer } from 'dns-packet'
import { answersQuery, parseForwarded, renderForwarded, renderUpstreamQuery } from './forwarded-response.ts'
import { parseQuery, type Query, udpLimitOf } from './query.ts'
import { answerOf, type DnsRecord } from './records.ts'
import { renderAnswer, renderCode, unsupportedCodeOf } from './render-response.ts'

const edns = (udpPayloadSize: number, changes: object = {}): PacketAnswer => ({
  type: 'OPT',
  name: '.',
  udpPayloadSize,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
  ...changes,
})

function queryMessage(name = 'Web.Shop.svc.cluster.local', packet: Packet = {}): Buffer {
  return encode({ type: 'query', id: 4711, flags: 0x100, questions: [{ type: 'A', name }], ...packet })
}

function queryOf(message: Buffer): Query {
  const query = parseQuery(message)
  assert.ok('name' in query, JSON.stringify(query))
  return query
}

const rcodeOf = (message: Buffer) => message.readUInt16BE(2) & 0xf
const optOf = (packet: DecodedPacket) =>
  packet.additionals?.find(({ type }) => type === 'OPT') as
    | { udpPayloadSize: number; flag_do: boolean; extendedRcode: number }
    | undefined

test('a query is read with its name in lower case and its bytes as sent', () => {
  const query = queryOf(queryMessage(undefined, { additionals: [edns(4096, { flags: 0x8000 })] }))
  assert.deepEqual([query.id, query.name, query.type], [4711, 'web.shop.svc.cluster.local', 1])
  assert.deepEqual(query.edns, { version: 0, udpBytes: 4096, dnssecOk: true })
  assert.match(query.question.toString('latin1'), /Web.Shop/)
})

test('a dot inside a label cannot pass for the end of one, and only ASCII letters have case', () => {
  const label = Buffer.from('a.b\u00c9', 'latin1')
  const message = Buffer.concat([
    queryMessage('x').subarray(0, 12),
    Buffer.from([label.length]),
    label,
    Buffer.from([0, 0, 1, 0, 1]),
  ])
  assert.equal(queryOf(message).name, 'a\\046b\u00c9')
})

test('damaged messages are dropped whatever the damage, and no damage throws', () => {
  const whole = queryMessage(undefined, { additionals: [edns(1232)] })
  for (let length = 0; length < whole.length; length++) {
    assert.deepEqual(parseQuery(whole.subarray(0, length)), { drop: 'malformed' }, `cut at ${length}`)
  }
  const pointer = Buffer.from(queryMessage())
  pointer.writeUInt16BE(0xc00c, 12)
  assert.deepEqual(parseQuery(pointer), { drop: 'malformed' })
  const tooLong = queryMessage(Array.from({ length: 130 }, () => 'a').join('.'))
  assert.deepEqual(parseQuery(tooLong), { drop: 'malformed' })
  let seed = 1
  for (let round = 0; round < 20_000; round++) {
    const mutated = Buffer.from(whole)
    for (let count = 0; count < 3; count++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
      mutated[seed % mutated.length] = seed >>> 24
    }
    parseQuery(mutated)
  }
})

test('responses are dropped, and what we do not speak is refused by code', () => {
  const codeOf = (message: Buffer) => (parseQuery(message) as { rcode?: number }).rcode
  assert.deepEqual(parseQuery(queryMessage('a', { type: 'response' })), { drop: 'response' })
  assert.equal(codeOf(queryMessage('a', { flags: 5 << 11 })), 4)
  assert.equal(codeOf(queryMessage('a', { questions: [{ type: 'TXT', name: 'version.bind', class: 'CH' }] })), 5)
  const question = { type: 'A', name: 'a' } as const
  assert.equal(codeOf(queryMessage('a', { questions: [question, question] })), 1)
  assert.equal(codeOf(queryMessage('a', { questions: [] })), 1)
  assert.equal(codeOf(queryMessage('a', { additionals: [edns(512), edns(512)] })), 1)
})

test('a refusal repeats id, opcode and question', () => {
  const fault = parseQuery(
    queryMessage('Example.org', { questions: [{ type: 'A', name: 'Example.org', class: 'CH' }] }),
  )
  assert.ok('rcode' in fault)
  const packet = decode(renderCode(fault, fault.rcode))
  assert.deepEqual([packet.id, packet.questions?.[0]?.name, packet.flag_qr], [4711, 'Example.org', true])
  const message = renderCode({ id: 1, flags: 5 << 11, question: Buffer.alloc(0) }, 4)
  assert.deepEqual([message.length, (message.readUInt16BE(2) >> 11) & 0xf, rcodeOf(message)], [12, 5, 4])
})

test('an EDNS version that does not exist yet is refused with the code that says so', () => {
  const query = queryOf(queryMessage('a', { additionals: [edns(1232, { ednsVersion: 1 })] }))
  assert.equal(unsupportedCodeOf(query), 16)
  const packet = decode(renderCode(query, 16))
  assert.deepEqual([packet.questions?.length, optOf(packet)?.extendedRcode], [1, 1])
  assert.equal(unsupportedCodeOf(queryOf(queryMessage())), undefined)
})

test('a client gets 512 bytes unless it takes more, and never so much that packets break', () => {
  const limitFor = (size: number) => udpLimitOf(queryOf(queryMessage('a', { additionals: [edns(size)] })))
  assert.deepEqual(
    [udpLimitOf(queryOf(queryMessage('a'))), limitFor(100), limitFor(900), limitFor(4096)],
    [512, 512, 900, 1232],
  )
})

const address = (data: string): DnsRecord => ({ type: 'A', ttlSeconds: 30, data })
const soa: DnsRecord = {
  name: 'cluster.local',
  type: 'SOA',
  ttlSeconds: 30,
  data: {
    mname: 'ns.dns.cluster.local',
    rname: 'hostmaster.cluster.local',
    serial: 7,
    refresh: 1,
    retry: 2,
    expire: 3,
    minimum: 30,
  },
}

test('an answer carries every record type, in the case of the question', () => {
  const query = queryOf(queryMessage(undefined, { additionals: [edns(1232, { flags: 0x8000 })] }))
  const answers: DnsRecord[] = [
    { type: 'CNAME', ttlSeconds: 30, data: 'b.example.org' },
    { ...address('10.0.0.1'), name: 'b.example.org' },
    { type: 'AAAA', ttlSeconds: 30, data: 'fd00::1' },
    { type: 'TXT', ttlSeconds: 30, data: '1.1.0' },
    { type: 'PTR', ttlSeconds: 30, data: 'c.example.org' },
    { type: 'SRV', ttlSeconds: 30, data: { priority: 0, weight: 100, port: 80, target: 'd.example.org' } },
  ]
  const message = renderAnswer(
    query,
    answerOf(answers, { authorities: [soa], additionals: [address('10.0.0.2')] }),
    1232,
  )
  const packet = decode(message)
  assert.deepEqual(
    [packet.id, packet.flag_qr, packet.flag_aa, packet.flag_rd, packet.flag_ra, packet.flag_tc],
    [4711, true, true, true, true, false],
  )
  const name = 'Web.Shop.svc.cluster.local'
  assert.deepEqual(
    packet.answers?.map((record) => [record.name, record.type, 'data' in record ? record.data : undefined]),
    [
      [name, 'CNAME', 'b.example.org'],
      ['b.example.org', 'A', '10.0.0.1'],
      [name, 'AAAA', 'fd00::1'],
      [name, 'TXT', [Buffer.from('1.1.0')]],
      [name, 'PTR', 'c.example.org'],
      [name, 'SRV', { priority: 0, weight: 100, port: 80, target: 'd.example.org' }],
    ],
  )
  const [authority] = packet.authorities ?? []
  assert.deepEqual(authority?.type === 'SOA' && [authority.name, authority.data], ['cluster.local', soa.data])
  assert.equal(packet.additionals?.[0]?.name, name)
  assert.deepEqual([optOf(packet)?.udpPayloadSize, optOf(packet)?.flag_do], [1232, true])
  assert.equal(decode.bytes, message.length)
})

test('an answer that is too large is cut between records and says so', () => {
  const answers = Array.from({ length: 100 }, (_, index) => address(`10.0.0.${index}`))
  for (const [additionals, limit] of [
    [[], 512],
    [[edns(700)], 700],
  ] satisfies [PacketAnswer[], number][]) {
    const query = queryOf(queryMessage(undefined, { additionals }))
    const message = renderAnswer(query, answerOf(answers, { authorities: [soa], additionals: [soa] }), limit)
    const cut = decode(message)
    assert.ok(message.length <= limit && message.length > limit - 16, `${message.length} of ${limit}`)
    assert.deepEqual([cut.flag_tc, cut.authorities?.length, optOf(cut) !== undefined], [true, 0, limit === 700])
    assert.deepEqual(cut.answers?.at(-1)?.name, 'Web.Shop.svc.cluster.local')
  }
  assert.equal(decode(renderAnswer(queryOf(queryMessage()), answerOf(answers), 65_535)).answers?.length, 100)
})

test('additional records that do not fit are left out without truncation', () => {
  const additionals = Array.from({ length: 100 }, (_, index) => address(`10.0.0.${index}`))
  const packet = decode(renderAnswer(queryOf(queryMessage()), answerOf([address('10.0.0.1')], { additionals }), 512))
  assert.deepEqual([packet.flag_tc, packet.answers?.length, (packet.additionals?.length ?? 0) > 10], [false, 1, true])
})

const query = queryOf(queryMessage('WWW.Example.org', { additionals: [edns(1232)] }))

function responseMessage(packet: Packet & { readonly rcode?: number } = {}): Buffer {
  const answers: PacketAnswer[] = [{ type: 'A', name: 'www.example.org', ttl: 100, data: '192.0.2.1' }]
  const { rcode = 0, ...rest } = packet
  const questions = [{ type: 'A', name: 'www.example.org' }] as const
  return encode({ type: 'response', id: 99, flags: 0x180 | rcode, questions: [...questions], answers, ...rest })
}

test('a question goes upstream with the spelling of the client and under an id of ours', () => {
  const message = renderUpstreamQuery(query, 99)
  const packet = decode(message)
  assert.deepEqual(
    [packet.id, packet.flag_rd, packet.questions?.[0]?.name, optOf(packet)?.udpPayloadSize],
    [99, true, 'WWW.Example.org', 1232],
  )
  const plain = decode(renderUpstreamQuery({ ...query, edns: undefined }, 1))
  assert.equal(plain.additionals?.length, 0)
})

test('only a response to this very question is taken', () => {
  assert.ok(answersQuery(responseMessage(), query, 99))
  const strangers = [
    responseMessage({ id: 98 }),
    responseMessage({ type: 'query' }),
    responseMessage({ questions: [{ type: 'A', name: 'www.example.com' }] }),
    responseMessage({ questions: [{ type: 'AAAA', name: 'www.example.org' }] }),
    responseMessage({ questions: [] }),
    responseMessage().subarray(0, 20),
    Buffer.alloc(0),
  ]
  for (const [index, message] of strangers.entries()) assert.ok(!answersQuery(message, query, 99), `stranger ${index}`)
  const https = { question: Buffer.concat([query.question.subarray(0, -4), Buffer.from([0, 0x41, 0, 1])]) }
  const lookalike = Buffer.from(responseMessage())
  lookalike.writeUInt16BE(0x61, 12 + query.question.length - 4)
  assert.ok(!answersQuery(lookalike, https, 99))
})

test('a damaged response is nothing', () => {
  const whole = responseMessage()
  for (let length = 12 + query.question.length; length < whole.length; length++) {
    assert.equal(parseForwarded(whole.subarray(0, length), query), undefined, `cut at ${length}`)
  }
})

test('what follows the last record of a response is not passed on, however much it is', () => {
  for (const packet of [{}, { answers: [] }]) {
    const whole = responseMessage(packet)
    const response = parseForwarded(Buffer.concat([whole, Buffer.alloc(2000, 7)]), query)
    assert.ok(response)
    const rendered = renderForwarded(response, query, { ageSeconds: 0, isStale: false, limitBytes: 512 })
    assert.deepEqual([rendered.length, decode(rendered).flag_tc], [whole.length, false])
  }
})

test('a response is cached by its least TTL, a negative one by its SOA, any other not at all', () => {
  const secondsOf = (packet: Packet & { readonly rcode?: number }) =>
    parseForwarded(responseMessage(packet), query)?.ttlSeconds
  const record = (ttl: number): PacketAnswer => ({ type: 'A', name: 'a', ttl, data: '192.0.2.1' })
  const start: PacketAnswer = { type: 'SOA', name: 'org', ttl: 900, data: { mname: 'a', rname: 'b', minimum: 60 } }
  assert.equal(secondsOf({ answers: [record(100), record(7)] }), 7)
  assert.equal(secondsOf({ answers: [record(100)], additionals: [edns(1232)] }), 100)
  assert.equal(secondsOf({ answers: [], authorities: [start] }), 60)
  assert.equal(secondsOf({ rcode: 3, answers: [], authorities: [{ ...start, ttl: 5 }] }), 5)
  assert.equal(secondsOf({ rcode: 3, answers: [] }), 0)
  assert.equal(secondsOf({ rcode: 2, answers: [] }), 0)
  assert.equal(secondsOf({ flags: 0x380 }), 0)
})

test('a forwarded response gets the id and spelling of its client and ages with its TTLs', () => {
  const response = parseForwarded(responseMessage({ additionals: [edns(1232)] }), query)
  assert.ok(response)
  const packet = decode(renderForwarded(response, query, { ageSeconds: 30, isStale: false, limitBytes: 1232 }))
  assert.deepEqual([packet.id, packet.questions?.[0]?.name], [4711, 'WWW.Example.org'])
  const [answer] = packet.answers ?? []
  assert.deepEqual(answer?.type === 'A' && [answer.ttl, answer.data], [70, '192.0.2.1'])
  assert.equal(optOf(packet)?.udpPayloadSize, 1232)
  const old = decode(renderForwarded(response, query, { ageSeconds: 300, isStale: false, limitBytes: 1232 }))
  assert.equal(old.answers?.[0]?.type === 'A' && old.answers[0].ttl, 0)
  assert.equal(decode(response.message).id, 99)
})

test('a forwarded response that is too large is cut between records and says so', () => {
  const answers: PacketAnswer[] = Array.from({ length: 50 }, (_, index) => ({
    type: 'A',
    name: 'www.example.org',
    ttl: 9,
    data: `192.0.2.${index}`,
  }))
  const response = parseForwarded(responseMessage({ answers, additionals: [edns(1232)] }), query)
  assert.ok(response)
  const message = renderForwarded(response, query, { ageSeconds: 0, isStale: false, limitBytes: 512 })
  const packet = decode(message)
  assert.ok(message.length <= 512)
  assert.ok((packet.answers?.length ?? 0) >= 10)
  assert.deepEqual([packet.flag_tc, decode.bytes, optOf(packet)?.udpPayloadSize], [true, message.length, 1232])
})
