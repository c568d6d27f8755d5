import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode } from 'dns-packet'
import { exchangeDatagram, openDatagramSocket, type SocketAddress } from '../net/index.ts'
import { parseQuery, type Query, questionOf } from './query.ts'
import { address, startUpstream } from './server.fixture.ts'
import { askUpstream, LoopProbe } from './upstream-exchange.ts'

const limits = () => ({ timeoutMs: 5000, signal: new AbortController().signal })
const query: Query = { id: 0, flags: 0x100, ...questionOf('www.example.org', 1), edns: undefined }

/** A resolver on UDP that answers as `respond` says, if at all. */
async function startResolver(respond: (query: Buffer, send: (answer: Buffer) => void) => void) {
  const socket = await openDatagramSocket({
    address,
    port: 0,
    onMessage: (message, from) => respond(message, (answer) => socket.send(answer, from)),
    onError: assert.ifError,
  })
  const server: SocketAddress = { address, port: socket.port }
  return { server, [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose]() }
}

function answerTo(message: Buffer, changes: { readonly id?: number; readonly name?: string } = {}): Buffer {
  const { id = 0, questions: [question] = [] } = decode(message)
  assert.ok(question)
  const name = changes.name ?? question.name
  const answers = [{ type: 'A', name, ttl: 60, data: '192.0.2.80' } as const]
  return encode({ type: 'response', id: changes.id ?? id, flags: 0x180, questions: [{ ...question, name }], answers })
}

test('a question in the form of names kept here reads back as the same question', () => {
  for (const name of ['www.example.org', 'a\\046b.example.org', 'x'.repeat(63), '\u00c9.example']) {
    const { question } = questionOf(name, 28)
    const header = Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    const read = parseQuery(Buffer.concat([header, question]))
    assert.ok('name' in read)
    assert.deepEqual([read.name, read.type], [name, 28])
  }
})

test('an answer under another id or about another name is passed over, and the right one taken', async () => {
  await using resolver = await startResolver((message, send) => {
    send(answerTo(message, { id: (message.readUInt16BE(0) + 1) & 0xffff }))
    send(answerTo(message, { name: 'www.example.net' }))
    send(Buffer.from('noise'))
    send(answerTo(message))
  })
  const response = await askUpstream(resolver.server, query, { ...limits(), transport: 'udp' })
  assert.deepEqual([response.rcode, response.ttlSeconds], [0, 60])
})

test('ids and ports differ from one question to the next', async () => {
  const ids = new Set<number>()
  const ports = new Set<number>()
  const socket = await openDatagramSocket({
    address,
    port: 0,
    onMessage(message, from) {
      ids.add(message.readUInt16BE(0))
      ports.add(from.port)
      socket.send(answerTo(message), from)
    },
    onError: assert.ifError,
  })
  await using _socket = socket
  const server = { address, port: socket.port }
  await Promise.all(Array.from({ length: 20 }, () => askUpstream(server, query, { ...limits(), transport: 'udp' })))
  assert.ok(ids.size > 10 && ports.size > 10, `${ids.size} ids, ${ports.size} ports`)
})

test('a cut answer is fetched again over TCP, and taken as it is where TCP is blocked', async () => {
  await using upstream = await startUpstream((_name, tcp) => (tcp ? {} : { flags: 0x380, answers: [] }))
  const whole = await askUpstream({ address, port: upstream.port }, query, { ...limits(), transport: 'udp' })
  assert.deepEqual([whole.isTruncated, whole.records.length], [false, 1])
  await using resolver = await startResolver((message, send) => {
    const cut = answerTo(message)
    cut.writeUInt16BE(cut.readUInt16BE(2) | 0x200, 2)
    send(cut)
  })
  const cut = await askUpstream(resolver.server, query, { ...limits(), transport: 'udp' })
  assert.deepEqual([cut.isTruncated, cut.ttlSeconds], [true, 0])
})

test('a silent resolver is an error after its time', async () => {
  await using resolver = await startResolver(() => undefined)
  const asking = askUpstream(resolver.server, query, { ...limits(), timeoutMs: 50, transport: 'udp' })
  await assert.rejects(asking, { code: 'ETIMEDOUT' })
})

test('a probe tells a resolver that answers from one that is silent', async () => {
  const probe = new LoopProbe()
  await using well = await startResolver((message, send) => send(answerTo(message)))
  const result = await probe.probe(well.server, limits())
  assert.ok(result.kind === 'answers' && result.tookMs >= 0)
  await using silent = await startResolver(() => undefined)
  assert.deepEqual(await probe.probe(silent.server, { ...limits(), timeoutMs: 50 }), { kind: 'silent' })
})

test('a probe finds a resolver that brings the question back, whether or not it answers in the end', async () => {
  for (const answers of [true, false]) {
    const probe = new LoopProbe()
    await using looping = await startResolver((message, send) => {
      const read = parseQuery(message)
      assert.ok('name' in read)
      assert.equal(probe.isOwnQuestion(read), true)
      if (answers) send(answerTo(message))
    })
    assert.deepEqual(await probe.probe(looping.server, { ...limits(), timeoutMs: 200 }), { kind: 'loops' })
  }
})

test('each probe has a name of its own, and names of others are not taken for it', async () => {
  const probe = new LoopProbe()
  const names: string[] = []
  await using well = await startResolver((message, send) => {
    const read = parseQuery(message)
    assert.ok('name' in read)
    names.push(read.name)
    send(answerTo(message))
  })
  await probe.probe(well.server, limits())
  await probe.probe(well.server, limits())
  const [first = '', second] = names
  assert.match(first, /^[0-9a-f]{16}\.edgemesh-loop-probe\.internal$/)
  assert.notEqual(first, second)
  // It is over, so whoever asks now is somebody else.
  assert.equal(probe.isOwnQuestion({ name: first }), false)
  assert.equal(probe.isOwnQuestion({ name: 'www.example.org' }), false)
})

test('an exchange that is no longer wanted ends at once', async () => {
  await using resolver = await startResolver(() => undefined)
  const stopping = new AbortController()
  const asking = askUpstream(resolver.server, query, { timeoutMs: 60_000, signal: stopping.signal, transport: 'udp' })
  stopping.abort(new Error('stopping'))
  await assert.rejects(asking, /stopping/)
  const late = exchangeDatagram(resolver.server, Buffer.alloc(12), {
    timeoutMs: 60_000,
    signal: stopping.signal,
    accept: () => true,
  })
  await assert.rejects(late, /stopping/)
})
