import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Ruleset, rulesetOf } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'
import { createStaleFlowTest, mayHoldStaleFlows } from './stale-flows.ts'

/** A ServicePort by the last numbers of its address and its endpoints. */
function entry(protocol: 'tcp' | 'udp', host: number, ...endpoints: readonly number[]): RuledServicePort {
  const slots = endpoints.map((last) => ({ address: `10.244.1.${last}`, port: 5300 }))
  const choice = { name: `shop/${host}:53/${protocol}`, slots, kind: 'random' } as const
  const external = { protocol, destinations: [], nodePort: 30000 + host, choice }
  return { ...choice, destinations: [{ protocol, address: `10.96.0.${host}`, port: 53 }], hairpins: [], external }
}

const rulesetWith = (...entries: readonly RuledServicePort[]): Ruleset =>
  rulesetOf({
    servicePorts: new Map(entries.map((each) => [each.name, each])),
    syntheticRange: '169.254.64.0/19',
    bridgeAddress: '169.254.96.16',
    listenPorts: [24001],
    foreignInterfaces: [],
    servesForeign: false,
    switchedNetworks: [],
  })

const end = (text: string) => ({ address: text.split(':')[0] ?? '', port: Number(text.split(':')[1]) })
const flow = (destination: string, answeredBy: string, protocol: 'udp' | 'tcp' = 'udp') => ({
  protocol,
  destination: end(destination),
  answeredBy: end(answeredBy),
})

test('flows are looked at when a UDP ServicePort came, changed or went', () => {
  const [web, dns] = [entry('tcp', 1, 2), entry('udp', 2, 2)]
  const before = rulesetWith(web, dns)
  assert.equal(mayHoldStaleFlows(before, rulesetWith(web, entry('udp', 2, 3))), true)
  assert.equal(mayHoldStaleFlows(before, rulesetWith(web)), true)
  assert.equal(mayHoldStaleFlows(undefined, before), true)
  assert.equal(mayHoldStaleFlows(undefined, rulesetWith(web)), false)
})

test('they are also looked at when a TCP ServicePort lost an endpoint, not when it got one', () => {
  const before = rulesetWith(entry('tcp', 1, 2))
  assert.equal(mayHoldStaleFlows(before, rulesetWith(entry('tcp', 1, 3))), true)
  assert.equal(mayHoldStaleFlows(before, rulesetWith()), true)
  assert.equal(mayHoldStaleFlows(before, rulesetWith(entry('tcp', 1, 2, 3))), false)
  assert.equal(mayHoldStaleFlows(rulesetWith(), before), false)
})

test('a TCP connection without an answer is stale when its endpoint is gone, also when a UDP ServicePort has it', () => {
  const before = rulesetWith(entry('tcp', 1, 2, 3), entry('tcp', 5, 2))
  const isStale = createStaleFlowTest(before, rulesetWith(entry('tcp', 1, 3), entry('tcp', 5, 2), entry('udp', 1, 2)))
  assert.equal(isStale(flow('10.96.0.1:53', '10.244.1.2:5300', 'tcp')), true)
  assert.equal(isStale(flow('192.168.1.11:30001', '10.244.1.2:5300', 'tcp')), true)
  assert.equal(isStale(flow('10.96.0.1:53', '10.244.1.3:5300', 'tcp')), false)
  assert.equal(isStale(flow('10.96.0.5:53', '10.244.1.2:5300', 'tcp')), false, 'of another Service')
  assert.equal(isStale(flow('10.96.0.1:53', '10.244.1.2:5300')), false)
  const isStaleThen = createStaleFlowTest(before, rulesetWith())
  assert.equal(isStaleThen(flow('10.96.0.1:53', '10.244.1.2:5300', 'tcp')), true, 'of a Service that is gone')
  assert.equal(isStaleThen(flow('10.96.0.1:53', '10.96.0.1:53', 'tcp')), false)
})

test('a flow to an external address that began before there was a rule is stale', () => {
  const destination = { protocol: 'udp', address: '10.244.2.2', port: 20006 } as const
  const slots = [{ address: '169.254.90.1', port: 41234 }]
  const choice = { name: 'questions', slots, kind: 'random' } as const
  const part = {
    ...choice,
    destinations: [],
    hairpins: [],
    external: { protocol: 'udp', destinations: [destination], choice },
  } as const
  const [before, after] = [rulesetWith(), rulesetWith(part)]
  assert.equal(mayHoldStaleFlows(before, after), true)
  assert.equal(createStaleFlowTest(before, after)(flow('10.244.2.2:20006', '10.244.2.2:20006')), true)
  assert.equal(createStaleFlowTest(before, after)(flow('10.244.2.2:20006', '169.254.90.1:41234')), false)
})

test('a flow to an endpoint that is gone is stale, one to an endpoint that stays is not', () => {
  const isStale = createStaleFlowTest(rulesetWith(entry('udp', 2, 2, 3)), rulesetWith(entry('udp', 2, 3)))
  assert.equal(isStale(flow('10.96.0.2:53', '10.244.1.2:5300')), true)
  assert.equal(isStale(flow('10.96.0.2:53', '10.244.1.3:5300')), false)
  assert.equal(isStale(flow('192.168.1.11:30002', '10.244.1.2:5300')), true)
  assert.equal(isStale(flow('192.168.1.11:30002', '10.244.1.3:5300')), false)
})

test('a flow that began before there was a rule is stale, and flows of others never are', () => {
  const isStale = createStaleFlowTest(rulesetWith(), rulesetWith(entry('udp', 2, 3)))
  assert.equal(isStale(flow('10.96.0.2:53', '10.96.0.2:53')), true)
  assert.equal(isStale(flow('10.96.0.9:53', '10.96.0.9:53')), false)
  assert.equal(isStale(flow('198.51.100.7:30002', '198.51.100.7:30002')), false)
})

test('a flow that was translated for a ServicePort which is gone is stale', () => {
  const isStale = createStaleFlowTest(rulesetWith(entry('udp', 2, 3)), rulesetWith())
  assert.equal(isStale(flow('10.96.0.2:53', '10.244.1.3:5300')), true)
  assert.equal(isStale(flow('10.96.0.2:53', '10.96.0.2:53')), false)
})

test('a flow to a ServicePort without endpoints is refused from now on', () => {
  const isStale = createStaleFlowTest(undefined, rulesetWith(entry('udp', 2)))
  assert.equal(isStale(flow('10.96.0.2:53', '10.244.1.3:5300')), true)
  assert.equal(isStale(flow('10.96.0.2:53', '10.96.0.2:53')), false)
})
