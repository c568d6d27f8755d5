import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { appearanceOf, hindranceOf, type Mapping, mappings } from './mapping.ts'

const at = (text: string) => {
  const [address = '', port] = text.split(':')
  return { address, port: Number(port) }
}
const own = ['192.168.1.11']

function seenAs(...seen: string[]) {
  const appearance = appearanceOf(seen.map(at), 20006, own)
  return appearance && [appearance.mapping, ...appearance.candidates.map(({ address, port }) => `${address}:${port}`)]
}

suite('what servers see of the listening port', () => {
  test('tells nothing when no server answers', () => {
    assert.equal(seenAs(), undefined)
  })

  test('is the own address where nothing translates it', () => {
    assert.deepEqual(seenAs('192.168.1.11:20006', '192.168.1.11:20006'), ['open', '192.168.1.11:20006'])
  })

  test('is another address with the same port behind a NAT that keeps ports', () => {
    assert.deepEqual(seenAs('203.0.113.9:20006'), ['preserving', '203.0.113.9:20006'])
  })

  test('is the same other port for everybody behind a NAT that can be punched as well', () => {
    assert.deepEqual(seenAs('203.0.113.9:41000', '203.0.113.9:41000'), ['stable', '203.0.113.9:41000'])
  })

  test('is another port for each where no hole can be punched', () => {
    const [mapping] = seenAs('203.0.113.9:41000', '203.0.113.9:41001') ?? []
    assert.equal(mapping, 'randomising')
  })

  test('may be another port by chance when only one was asked: the kept port is worth a try too', () => {
    assert.deepEqual(seenAs('203.0.113.9:41000'), ['unknown', '203.0.113.9:41000', '203.0.113.9:20006'])
  })

  test('holds two addresses when a site has two ways out', () => {
    assert.deepEqual(seenAs('203.0.113.9:20006', '198.51.100.9:20006'), [
      'preserving',
      '203.0.113.9:20006',
      '198.51.100.9:20006',
    ])
  })
})

suite('what hinders two nodes', () => {
  test('is a NAT that changes ports, unless the other side has none', () => {
    const hindered = mappings.filter((mapping) => hindranceOf('randomising', mapping) !== undefined)
    assert.deepEqual(hindered, ['preserving', 'stable', 'unknown', 'randomising'] satisfies Mapping[])
  })

  test('says on which side it is', () => {
    assert.match(hindranceOf('randomising', 'preserving') ?? '', /NAT of this side changes/)
    assert.match(hindranceOf('preserving', 'randomising') ?? '', /NAT of the other side changes/)
    assert.match(hindranceOf('randomising', 'randomising') ?? '', /NATs of both sides change/)
  })

  test('is nothing when both keep what they show', () => {
    for (const mapping of ['open', 'preserving', 'stable', 'unknown'] as const) {
      assert.equal(hindranceOf(mapping, 'preserving'), undefined)
    }
  })
})
