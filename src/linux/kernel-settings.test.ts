import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { test } from 'node:test'
import { readBridgeNetfilter, readEphemeralPorts } from './kernel-settings.ts'

test('the ports for outgoing connections are those that the kernel tells', () => {
  const [first, last] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number)
  const ports = readEphemeralPorts()
  assert.deepEqual([ports.first, ports.last], [first, last])
})

test('a port is reserved when it is in one of the ranges that the kernel leaves alone', () => {
  const { isReserved } = readEphemeralPorts()
  const reserved = readFileSync('/proc/sys/net/ipv4/ip_local_reserved_ports', 'utf8').trim()
  assert.equal(isReserved(0), false)
  if (reserved === '') assert.equal(isReserved(40_001), false)
  else assert.equal(isReserved(Number.parseInt(reserved, 10)), true)
})

test('settings are read often, and leave no buffers behind', () => {
  const before = process.memoryUsage().arrayBuffers
  for (let count = 0; count < 8; count++) void readBridgeNetfilter()
  assert.ok(process.memoryUsage().arrayBuffers - before < 100_000)
})
