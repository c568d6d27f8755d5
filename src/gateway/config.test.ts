import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gatewayModuleSchema } from './config.ts'

test('an empty mapping is a gateway that is off, with the labels that examples select', () => {
  const config = gatewayModuleSchema.parse({})
  assert.equal(config.enable, false)
  assert.deepEqual(config.labels, { kubeedge: 'edgemesh-gateway' })
  assert.deepEqual([config.nic, config.includeIP, config.excludeIP], ['*', '*', '*'])
})

test('interfaces and addresses are lists separated by commas', () => {
  const parse = (config: Readonly<Record<string, string>>) => gatewayModuleSchema.safeParse(config).success
  for (const nic of ['*', '', 'eth0', 'eth0,eth1', 'eth0, br-lan.5']) assert.ok(parse({ nic }), nic)
  for (const nic of [',', 'eth0,', 'a b', 'name-that-is-too-long']) assert.ok(!parse({ nic }), nic)
  for (const ip of ['*', '', '192.0.2.1', '192.0.2.1, 10.0.0.0/8', 'fd00::/64,::1']) {
    assert.ok(parse({ includeIP: ip }) && parse({ excludeIP: ip }), ip)
  }
  for (const ip of ['192.0.2', '192.0.2.1;192.0.2.2', '10.0.0.0/33', 'eth0', '1.2.3.4,']) {
    assert.ok(!parse({ includeIP: ip }) && !parse({ excludeIP: ip }), ip)
  }
})
