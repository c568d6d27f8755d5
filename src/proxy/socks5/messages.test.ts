import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  maxHeadBytes,
  type Parsed,
  parseGreeting,
  parseRequest,
  renderMethod,
  renderReply,
  SocksError,
} from './messages.ts'

const nameRequest = (name: string, port = 22) =>
  Buffer.from([5, 1, 0, 3, name.length, ...Buffer.from(name, 'latin1'), port >> 8, port & 255])

const errorOf = (parse: () => unknown): SocksError => {
  try {
    parse()
  } catch (error) {
    assert.ok(error instanceof SocksError, String(error))
    return error
  }
  assert.fail('is accepted')
}

test('a greeting names methods', () => {
  assert.deepEqual(parseGreeting(Buffer.from([5, 2, 0, 2])), { message: [0, 2], length: 4 })
  assert.deepEqual(parseGreeting(Buffer.from([5, 0])), { message: [], length: 2 })
  assert.deepEqual(parseGreeting(Buffer.from([5, 1, 0, 5, 1])), { message: [0], length: 3 })
})

test('a request names a node, an IPv4 or an IPv6 address', () => {
  const name = nameRequest('edge-b1')
  assert.deepEqual(parseRequest(name), {
    message: { destination: { kind: 'name', name: 'edge-b1' }, port: 22 },
    length: name.length,
  })
  assert.deepEqual(parseRequest(Buffer.from([5, 1, 0, 1, 192, 0, 2, 7, 0x1f, 0x90]))?.message, {
    destination: { kind: 'address', address: '192.0.2.7' },
    port: 8080,
  })
  const ipv6 = Buffer.from([5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 1, 0, 22])
  assert.deepEqual(parseRequest(ipv6)?.message.destination, { kind: 'address', address: '2001:db8:0:0:0:0:0:1' })
  assert.equal(parseRequest(Buffer.concat([name, Buffer.from('SSH-2.0')]))?.length, name.length)
})

test('messages that are not whole yet are waited for, however they are cut', () => {
  for (const whole of [nameRequest('edge-b1'), Buffer.from([5, 1, 0, 1, 192, 0, 2, 7, 0, 22])]) {
    for (let length = 0; length < whole.length; length++) {
      assert.equal(parseRequest(whole.subarray(0, length)), undefined, `cut at ${length}`)
    }
  }
  assert.equal(parseGreeting(Buffer.from([5])), undefined)
  assert.equal(parseGreeting(Buffer.from([5, 3, 0, 1])), undefined)
})

test('commands besides CONNECT, and types that do not exist, get the reply that says so', () => {
  for (const command of [0, 2, 3, 255]) {
    assert.equal(errorOf(() => parseRequest(Buffer.from([5, command, 0, 1, 1, 2, 3, 4, 0, 22]))).reply, 7)
  }
  for (const type of [0, 2, 5, 255]) {
    assert.equal(errorOf(() => parseRequest(Buffer.from([5, 1, 0, type, 1, 2, 3, 4, 0, 22]))).reply, 8)
  }
})

test('other protocols get no reply, as none would be understood', () => {
  for (const bytes of [Buffer.from([4, 1, 0, 22]), Buffer.from('GET / HTTP/1.1'), Buffer.from([0x16, 3, 1])]) {
    assert.equal(errorOf(() => parseGreeting(bytes)).reply, undefined)
    assert.equal(errorOf(() => parseRequest(bytes)).reply, undefined)
  }
})

test('what is sent is what RFC 1928 says', () => {
  assert.deepEqual(renderReply(4), Buffer.from([5, 4, 0, 1, 0, 0, 0, 0, 0, 0]))
  assert.deepEqual([renderMethod(0), renderMethod(undefined)], [Buffer.from([5, 0]), Buffer.from([5, 255])])
})

test('no bytes make the parsers throw anything else, read beyond the end, or wait for more than a head may hold', () => {
  const count = Number(process.env['EDGEMESH_FUZZ_COUNT'] ?? 20_000)
  let seed = 20_231
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
  const seeds = [nameRequest('edge-b1'), nameRequest('x'.repeat(255)), Buffer.from([5, 1, 0, 4, ...Array(18).fill(7)])]
  const parsers: ((bytes: Buffer) => Parsed<unknown> | undefined)[] = [parseGreeting, parseRequest]
  let parsed = 0
  for (let run = 0; run < count; run++) {
    const base = Buffer.from(seeds[random(seeds.length)] ?? Buffer.alloc(0))
    for (let change = random(4); change > 0; change--) base[random(base.length)] = random(256)
    const bytes = Buffer.concat([base, Buffer.alloc(random(8), random(256))]).subarray(0, 1 + random(base.length + 8))
    for (const parse of parsers) {
      try {
        const result = parse(bytes)
        if (result === undefined) assert.ok(bytes.length <= maxHeadBytes, bytes.toString('hex'))
        else assert.ok(result.length >= 2 && result.length <= bytes.length, bytes.toString('hex'))
        parsed += Number(result !== undefined)
      } catch (error) {
        assert.ok(error instanceof SocksError, bytes.toString('hex'))
      }
    }
  }
  assert.ok(parsed > count / 10, `only ${parsed} of ${count} inputs were messages`)
})
