import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { readFirstBytes } from './first-bytes.ts'
import { everyAddress, listenAddressesOf } from './listen-addresses.ts'
import { parseProxyHeader } from './proxy-protocol.ts'

suite('addresses to listen on', () => {
  const addresses = [
    { interface: 'lo', address: '127.0.0.1' },
    { interface: 'eth0', address: '192.0.2.7' },
    { interface: 'eth0', address: '10.1.2.3' },
    { interface: 'eth1', address: '10.2.0.1' },
  ]
  const cases: readonly (readonly [string, string, string, readonly string[]])[] = [
    ['*', '*', '*', [everyAddress]],
    ['', '', '', [everyAddress]],
    ['eth0', '*', '*', ['10.1.2.3', '192.0.2.7']],
    ['eth0, eth1', '*', '*', ['10.1.2.3', '10.2.0.1', '192.0.2.7']],
    ['*', '10.2.0.1', '*', ['10.2.0.1']],
    ['*', '10.0.0.0/8', '*', ['10.1.2.3', '10.2.0.1']],
    ['*', '10.1.9.9/16,192.0.2.7', '*', ['10.1.2.3', '192.0.2.7']],
    ['*', '*', '127.0.0.0/8', ['10.1.2.3', '10.2.0.1', '192.0.2.7']],
    ['eth0', '10.0.0.0/8', '10.1.2.3', []],
    ['eth9', '*', '*', []],
    ['*', '0.0.0.0/0', '*', ['10.1.2.3', '10.2.0.1', '127.0.0.1', '192.0.2.7']],
  ]
  for (const [nic, includeIP, excludeIP, expected] of cases) {
    test(`with nic ${nic}, includeIP ${includeIP}, excludeIP ${excludeIP}`, () => {
      assert.deepEqual(listenAddressesOf({ nic, includeIP, excludeIP }, addresses), expected)
    })
  }
})

suite('a PROXY header', () => {
  const version2 = (command: number, family: number, body: readonly number[]) =>
    Buffer.concat([
      Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
      Buffer.from([0x20 | command, family, body.length >> 8, body.length & 255, ...body]),
    ])
  const ipv4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80]

  test('of version 1 names the client', () => {
    const line = 'PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n'
    const expected = { client: { address: '192.0.2.1', port: 8080 }, length: line.length }
    assert.deepEqual(parseProxyHeader(Buffer.from(`${line}GET`)), expected)
    assert.deepEqual(parseProxyHeader(Buffer.from('PROXY UNKNOWN\r\n')), { length: 15 })
    for (let length = 0; length < line.length; length++) {
      assert.equal(parseProxyHeader(Buffer.from(line.slice(0, length))), 'incomplete')
    }
  })

  test('of version 2 names the client', () => {
    const bytes = version2(1, 0x11, ipv4)
    assert.deepEqual(parseProxyHeader(bytes), { client: { address: '192.0.2.1', port: 8080 }, length: 28 })
    const ipv6 = version2(1, 0x21, [...Array(15).fill(0), 1, ...Array(16).fill(0), 0, 9, 0, 80])
    assert.deepEqual(parseProxyHeader(ipv6), { client: { address: '::1', port: 9 }, length: 52 })
    assert.deepEqual(parseProxyHeader(version2(0, 0, [])), { length: 16 })
    for (let length = 0; length < bytes.length; length++) {
      assert.equal(parseProxyHeader(bytes.subarray(0, length)), 'incomplete')
    }
  })

  test('that is none is refused', () => {
    const wrong = [
      Buffer.from('GET / HTTP/1.1\r\n'),
      Buffer.from('PROXY TCP4 x y 1 2\r\n'),
      Buffer.from(`PROXY ${'x'.repeat(120)}`),
      version2(2, 0x11, ipv4),
    ]
    for (const bytes of wrong) assert.equal(parseProxyHeader(bytes), 'invalid')
  })
})

suite('first bytes', () => {
  const understand = (bytes: Buffer) => (bytes.length < 3 ? undefined : bytes.toString('latin1', 0, 3))

  test('are read until they are understood, and all are given on', async () => {
    const [near, far] = createMemoryStreamPair()
    const read = readFirstBytes(near, understand, { timeoutMs: 60_000, maxBytes: 100 })
    far.write('ab')
    far.write('cde')
    const first = await read
    assert.deepEqual([first?.result, first?.bytes.toString()], ['abc', 'abcde'])
    assert.ok(near.isPaused())
  })

  test('may be there already', async () => {
    const [near] = createMemoryStreamPair()
    const first = await readFirstBytes(near, understand, {
      timeoutMs: 60_000,
      maxBytes: 100,
      already: Buffer.from('xyz'),
    })
    assert.equal(first?.result, 'xyz')
  })

  test('end in nothing when the client leaves, or sends too much', async () => {
    const [near, far] = createMemoryStreamPair()
    const left = readFirstBytes(near, understand, { timeoutMs: 60_000, maxBytes: 100 })
    far.end()
    assert.equal(await left, undefined)
    const [other, sender] = createMemoryStreamPair()
    const flooded = readFirstBytes(other, () => undefined, { timeoutMs: 60_000, maxBytes: 4 })
    sender.write('12345')
    assert.equal(await flooded, undefined)
  })
})
