import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { bytesOf, parseElementTypes, readParts, writeParts } from './element-codec.ts'

const address = parseElementTypes(['type inet_proto . ipv4_addr . inet_service : verdict'])

function encoded(text: string, types = address.key, side: 'first' | 'last' | 'only' = 'only'): string {
  const bytes = Buffer.alloc(bytesOf(types))
  writeParts(bytes, 0, text, { types, side })
  return bytes.toString('hex')
}

suite('the types of a container', () => {
  test('are read from what stands between its braces', () => {
    assert.deepEqual(address, {
      key: ['inet_proto', 'ipv4_addr', 'inet_service'],
      value: 'verdict',
      isInterval: false,
    })
    const ranges = parseElementTypes(['type ipv4_addr . inet_service', 'flags interval'])
    assert.deepEqual(ranges, { key: ['ipv4_addr', 'inet_service'], isInterval: true })
    const remembered = parseElementTypes([
      'type ipv4_addr : ipv4_addr . inet_service',
      'flags dynamic,timeout',
      'size 9',
    ])
    assert.deepEqual(remembered.value, ['ipv4_addr', 'inet_service'])
  })

  test('that are not known are an error that names them', () => {
    assert.throws(() => parseElementTypes(['type ipv6_addr']), /type "ipv6_addr": ipv6_addr is not known/)
    assert.throws(() => parseElementTypes(['typeof ip daddr']), /nothing is not known/)
  })
})

suite('a key', () => {
  test('has its parts padded to four bytes when it has several', () => {
    assert.equal(encoded('tcp . 10.96.0.1 . 443'), '06000000' + '0a600001' + '01bb0000')
    assert.equal(encoded('udp . 255.255.255.255 . 65535'), '11000000' + 'ffffffff' + 'ffff0000')
  })

  test('is as long as its only part', () => {
    assert.equal(encoded('443', ['inet_service']), '01bb')
    assert.equal(encoded('sctp', ['inet_proto']), '84')
    assert.equal(encoded('169.254.64.1', ['ipv4_addr']), 'a9fe4001')
  })

  test('with a network goes from its first address to its last, whatever host bits it has', () => {
    const types = ['ipv4_addr', 'ipv4_addr'] as const
    assert.equal(encoded('10.0.0.1 . 10.1.2.3/20', types, 'first'), '0a000001' + '0a010000')
    assert.equal(encoded('10.0.0.1 . 10.1.2.3/20', types, 'last'), '0a000001' + '0a010fff')
    assert.equal(encoded('0.0.0.0/0', ['ipv4_addr'], 'last'), 'ffffffff')
    assert.equal(encoded('1.2.3.4/32', ['ipv4_addr'], 'last'), '01020304')
    assert.equal(encoded('1.2.3.4', ['ipv4_addr'], 'last'), '01020304')
  })

  test('that does not fit its container is an error that names it', () => {
    const wrong = [
      'tcp . 10.96.0.1',
      'tcp . 10.96.0.1 . 443 . 1',
      'tcp . 10.96.0 . 443',
      'tcp . 10.96.0.256 . 443',
      'tcp . 10.96.0.1/24 . 443',
      'tcp . 10.96.0.1 . 65536',
      'tcp . 10.96.0.1 . -1',
      'tcp . 10.96.0.1 . 443 ',
      'ipip . 10.96.0.1 . 443',
      'tcp.10.96.0.1.443',
      '',
    ]
    for (const text of wrong) {
      assert.throws(
        () => encoded(text),
        (error) => error instanceof Error && error.message.includes(`element "${text}"`),
        text,
      )
    }
  })

  test('is read as it was written', () => {
    const bytes = Buffer.alloc(12)
    for (const text of ['tcp . 10.96.0.1 . 443', 'udp . 0.0.0.0 . 0', 'sctp . 255.1.2.3 . 65535']) {
      bytes.fill(0)
      writeParts(bytes, 0, text, { types: address.key, side: 'only' })
      assert.equal(readParts(bytes, address.key), text)
    }
    assert.equal(
      readParts(Buffer.from([47, 0, 0, 0]), ['inet_proto', 'inet_service'].slice(0, 1) as ['inet_proto']),
      '47',
    )
  })
})
