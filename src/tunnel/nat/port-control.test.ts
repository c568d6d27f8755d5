import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { decodeNatPmp, decodePcp, encodeNatPmp, encodePcp, MappingRefusedError } from './port-control.ts'

const request = { internalPort: 20006, externalPort: 20006, lifetimeSeconds: 3600 }
const nonce = Buffer.from('0102030405060708090a0b0c', 'hex')
const bytes = (...parts: string[]) => Buffer.from(parts.join('').replaceAll(' ', ''), 'hex')
const isUnknown = (error: unknown) => error instanceof MappingRefusedError && error.isUnknownVersion

suite('NAT-PMP (RFC 6886 section 3.3)', () => {
  test('asks for a TCP port in twelve bytes', () => {
    assert.deepEqual(encodeNatPmp(request), bytes('00 02 0000 4e26 4e26 00000e10'))
  })

  test('takes a mapping back with no lifetime and no external port', () => {
    assert.deepEqual(encodeNatPmp({ ...request, lifetimeSeconds: 0 }), bytes('00 02 0000 4e26 0000 00000000'))
  })

  test('is told the port and how long it lasts', () => {
    const answer = bytes('00 82 0000 00001234 4e26 9c40 00000708')
    assert.deepEqual(decodeNatPmp(answer, request), { externalPort: 40_000, lifetimeSeconds: 1800 })
  })

  test('hears no answer in what is short, another request, or for another port', () => {
    for (const other of ['00', '00 81 0000 00001234 4e26 9c40 00000708', '00 82 0000 00001234 4e27 9c40 00000708']) {
      assert.equal(decodeNatPmp(bytes(other), request), undefined)
    }
    assert.equal(decodeNatPmp(bytes('00 82 0000 00001234 4e26'), request), undefined)
  })

  test('is refused in words', () => {
    assert.throws(() => decodeNatPmp(bytes('00 82 0002 00001234'), request), /by NAT-PMP: not authorised/)
    assert.throws(() => decodeNatPmp(bytes('00 82 0063 00001234'), request), /result 99/)
  })
})

suite('PCP (RFC 6887 section 11)', () => {
  const head = '00000000000000000000ffff'
  const map = `0102030405060708090a0b0c 06 000000 4e26`

  test('asks for a TCP port in sixty bytes, with our address and a nonce', () => {
    const expected = bytes('02 01 0000 00000e10', `${head}c0a8010b`, map, '4e26', `${head}00000000`)
    assert.deepEqual(encodePcp(request, nonce, '192.168.1.11'), expected)
  })

  test('takes a mapping back with no lifetime', () => {
    const message = encodePcp({ ...request, lifetimeSeconds: 0 }, nonce, '192.168.1.11')
    assert.deepEqual([message.readUInt32BE(4), message.readUInt16BE(42)], [0, 0])
  })

  const answerOf = (version: string, result: string, port = '9c40') =>
    bytes(`${version} 81 00 ${result} 00000708 00001234`, '00'.repeat(12), map, port, `${head}cb00710a`)

  test('is told the port and how long it lasts', () => {
    assert.deepEqual(decodePcp(answerOf('02', '00'), request, nonce), { externalPort: 40_000, lifetimeSeconds: 1800 })
  })

  test('hears no answer in what is short, a request, or for another nonce', () => {
    assert.equal(decodePcp(bytes('02 81'), request, nonce), undefined)
    assert.equal(decodePcp(encodePcp(request, nonce, '192.168.1.11'), request, nonce), undefined)
    assert.equal(decodePcp(answerOf('02', '00'), request, Buffer.alloc(12)), undefined)
    assert.equal(decodePcp(answerOf('02', '00').subarray(0, 59), request, nonce), undefined)
  })

  test('is refused in words', () => {
    assert.throws(() => decodePcp(answerOf('02', '02'), request, nonce), /by PCP: not authorised/)
  })

  test('knows the answer of a router that only speaks NAT-PMP', () => {
    assert.throws(() => decodePcp(bytes('00 81 0001 00001234'), request, nonce), isUnknown)
    assert.throws(() => decodePcp(answerOf('02', '01'), request, nonce), isUnknown)
  })
})
