import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closestOf, editDistance } from './suggest.ts'

test('the distance counts insertions, deletions, replacements and swaps of neighbours', () => {
  assert.equal(editDistance('psk', 'psk', 9), 0)
  assert.equal(editDistance('pks', 'psk', 9), 1)
  assert.equal(editDistance('relayNode', 'relayNodes', 9), 1)
  assert.equal(editDistance('serves', 'servers', 9), 1)
  assert.equal(editDistance('', 'abc', 9), 3)
  assert.equal(editDistance('kitten', 'sitting', 9), 3)
})

test('a text that is much longer is not compared', () => {
  assert.equal(editDistance('a', 'a'.repeat(1000), 3), 4)
})

test('the closest candidate wins, whatever its letters case', () => {
  assert.equal(closestOf('edgeDns', ['edgeTunnel', 'edgeDNS']), 'edgeDNS')
  assert.equal(closestOf('listenPrt', ['listenHost', 'listenPort']), 'listenPort')
})

test('nothing is suggested when nothing is close', () => {
  assert.equal(closestOf('networking', ['edgeDNS', 'edgeProxy']), undefined)
  assert.equal(closestOf('x', ['enable']), undefined)
  assert.equal(closestOf('x', []), undefined)
})
