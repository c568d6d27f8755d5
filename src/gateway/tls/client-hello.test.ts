import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseClientHello } from './client-hello.ts'

/** A ClientHello as clients send it, in records of at most that many bytes. */
function helloFor(name: string | undefined, recordSize = 16_384): Buffer {
  const host = Buffer.from(name ?? '')
  const list = Buffer.concat([Buffer.from([0]), uint16(host.length), host])
  const serverName = extension(0, Buffer.concat([uint16(list.length), list]))
  const extensions = Buffer.concat([extension(10, Buffer.alloc(4)), name === undefined ? Buffer.alloc(0) : serverName])
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32, 7),
    Buffer.from([4, 1, 2, 3, 4]),
    uint16(2),
    Buffer.from([0x13, 1]),
    Buffer.from([1, 0]),
    uint16(extensions.length),
    extensions,
  ])
  const handshake = Buffer.concat([Buffer.from([1, 0]), uint16(body.length), body])
  const records: Buffer[] = []
  for (let at = 0; at < handshake.length; at += recordSize) {
    const part = handshake.subarray(at, at + recordSize)
    records.push(Buffer.from([22, 3, 1]), uint16(part.length), part)
  }
  return Buffer.concat(records)
}

const uint16 = (value: number) => Buffer.from([value >> 8, value & 255])
const extension = (type: number, body: Buffer) => Buffer.concat([uint16(type), uint16(body.length), body])

test('the name that a client asks for is read, in lower case and without its final dot', () => {
  for (const [asked, name] of [
    ['www.example.org', 'www.example.org'],
    ['WWW.a.ORG.', 'www.a.org'],
    [undefined, ''],
  ]) {
    assert.deepEqual(parseClientHello(helloFor(asked)), { serverName: name })
  }
})

test('a name that is none counts as none', () => {
  for (const name of ['a b', 'a/b', '\0', 'x'.repeat(300)])
    assert.deepEqual(parseClientHello(helloFor(name)), { serverName: '' })
})

test('a hello may be cut into records, and is incomplete until its last byte', () => {
  const hello = helloFor('a.org', 20)
  for (let length = 0; length < hello.length; length++) {
    assert.equal(parseClientHello(hello.subarray(0, length)), 'incomplete', `${length} bytes`)
  }
  assert.deepEqual(parseClientHello(hello), { serverName: 'a.org' })
})

test('what is no hello is told at its first bytes', () => {
  const wrong = helloFor('a.org')
  wrong[5] = 2
  for (const bytes of [Buffer.from('GET / HTTP/1.1'), Buffer.from([22, 2]), Buffer.from([22, 3, 1, 0, 0]), wrong]) {
    assert.equal(parseClientHello(bytes), 'not-tls')
  }
})

test('damaged hellos never throw', () => {
  const hello = helloFor('a.org')
  for (let at = 5; at < hello.length; at++) {
    for (const value of [0, 127, 255]) {
      const damaged = Buffer.from(hello)
      damaged[at] = value
      parseClientHello(damaged)
    }
  }
})
