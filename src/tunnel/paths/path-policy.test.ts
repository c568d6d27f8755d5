import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tunnelSchemaOf } from '../config.ts'
import { pathPolicyOf } from './path-policy.ts'

const ways = ['direct', 'punched', 'relayed via server']

function allowed(paths: object): string[] {
  const policy = pathPolicyOf(tunnelSchemaOf(20006).parse({ paths }).paths)
  return ways.filter((way) => policy.allows(way))
}

test('every path is taken unless a switch forbids it', () => {
  assert.deepEqual(allowed({}), ways)
  assert.deepEqual(allowed({ directOnly: true }), ['direct', 'punched'])
  assert.deepEqual(allowed({ relayOnly: true }), ['relayed via server'])
  assert.deepEqual(allowed({ noPunch: true }), ['direct', 'relayed via server'])
  assert.deepEqual(allowed({ directOnly: true, noPunch: true }), ['direct'])
})

test('a node that only relays seeks nothing else', () => {
  const policyOf = (paths: object) => pathPolicyOf(tunnelSchemaOf(20006).parse({ paths }).paths)
  assert.deepEqual([policyOf({ relayOnly: true }).seeksDirect, policyOf({ relayOnly: true }).punches], [false, false])
  assert.deepEqual([policyOf({ noPunch: true }).seeksDirect, policyOf({ noPunch: true }).punches], [true, false])
  const mapping = [{}, { noPunch: true }, { relayOnly: true }, { noPortMapping: true }]
  assert.deepEqual(
    mapping.map((paths) => policyOf(paths).mapsPorts),
    [true, true, false, false],
  )
})

test('switches that leave no path are an error', () => {
  assert.throws(
    () => tunnelSchemaOf(20006).parse({ paths: { directOnly: true, relayOnly: true } }),
    /leaves no path together with directOnly/,
  )
})
