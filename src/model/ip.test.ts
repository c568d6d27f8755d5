import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipv4ToNumber, isInIpv4Network, numberToIpv4, parseIpv4Network, sizeOfIpv4Network } from './ip.ts'

test('dotted quads become numbers and back', () => {
  for (const text of ['0.0.0.0', '10.96.0.1', '169.254.96.16', '255.255.255.255']) {
    assert.equal(numberToIpv4(ipv4ToNumber(text) ?? Number.NaN), text)
  }
})

test('text that is not exactly a dotted quad is refused', () => {
  for (const text of ['', '1.2.3', '1.2.3.4.5', '1.2.3.256', '01.2.3.4', '::1', '1.2.3.4 ', 'a.b.c.d']) {
    assert.equal(ipv4ToNumber(text), undefined, text)
  }
})

test('a network holds its own addresses and no others', () => {
  const network = parseIpv4Network('169.254.64.0/19')
  assert.ok(network)
  assert.equal(sizeOfIpv4Network(network), 8192)
  assert.ok(isInIpv4Network('169.254.64.0', network))
  assert.ok(isInIpv4Network('169.254.95.255', network))
  assert.ok(!isInIpv4Network('169.254.96.16', network))
  assert.ok(!isInIpv4Network('169.254.169.254', network))
})

test('prefix lengths 0 and 32 work', () => {
  const all = parseIpv4Network('0.0.0.0/0')
  const one = parseIpv4Network('10.0.0.1/32')
  assert.ok(all && one)
  assert.ok(isInIpv4Network('203.0.113.9', all))
  assert.ok(isInIpv4Network('10.0.0.1', one))
  assert.ok(!isInIpv4Network('10.0.0.2', one))
})

test('networks with host bits or impossible prefixes are refused', () => {
  for (const text of ['10.0.0.1/24', '10.0.0.0/33', '10.0.0.0', 'x/8', '10.0.0.0/']) {
    assert.equal(parseIpv4Network(text), undefined, text)
  }
})
