import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseServerAddress } from '../host/server-address.ts'
import { RelayChoice, type RelayLink } from './relay-choice.ts'

function link(name: string, roundTripMs: number | undefined, reached: readonly string[] = ['edge-b1']): RelayLink {
  const address = parseServerAddress(name)
  return {
    address,
    peerId: `id-${name}`,
    isUp: true,
    isDoubted: false,
    roundTripMs,
    reaches: (node) => reached.includes(node),
    refusalOf: () => undefined,
    status: () => ({ address: address.text, connected: true, reserved: true }),
  }
}

const namesOf = (links: readonly RelayLink[]) => links.map(({ peerId }) => peerId)

test('the nearest relay that the node is connected to comes first, one not measured yet last', () => {
  const links = [link('new', undefined), link('far', 80), link('near', 20), link('elsewhere', 1, ['edge-c1'])]
  assert.deepEqual(namesOf(new RelayChoice(links).reaching('edge-b1')), ['id-near', 'id-far', 'id-new'])
})

test('a silent relay comes after all others for a while', () => {
  let nowMs = 1000
  const choice = new RelayChoice([link('near', 20), link('far', 80)], () => nowMs)
  assert.equal(choice.hasSilent, false)
  choice.noteSilent('id-near')
  assert.deepEqual([choice.isSilent('id-near'), choice.hasSilent], [true, true])
  assert.deepEqual(namesOf(choice.reaching('edge-b1')), ['id-far', 'id-near'])
  nowMs += 15_001
  assert.equal(choice.isSilent('id-near'), false)
  assert.deepEqual(namesOf(choice.reaching('edge-b1')), ['id-near', 'id-far'])
})

test('one that was silent is passed over only while the node can be reached through another one', () => {
  let nowMs = 1000
  const links = [
    link('one', 20),
    link('two', 20),
    link('elsewhere', 1, ['edge-c1']),
    { ...link('down', 1), isUp: false },
  ]
  const choice = new RelayChoice(links, () => nowMs)
  assert.equal(choice.hasOther('edge-b1', 'id-one'), true)
  choice.noteSilent('id-two')
  assert.equal(choice.hasOther('edge-b1', 'id-one'), false)
  nowMs += 15_001
  assert.equal(choice.hasOther('edge-b1', 'id-one'), true)
})

test('a relay of which nothing is heard is doubted, others and direct ways are not', () => {
  const choice = new RelayChoice([link('one', 20), { ...link('two', 20), isUp: false, isDoubted: true }])
  assert.deepEqual(
    ['id-one', 'id-two', 'id-other', undefined].map((id) => choice.isDoubted(id)),
    [false, true, false, false],
  )
})

test('a direct way is never a silent relay', () => {
  assert.equal(new RelayChoice([]).isSilent(undefined), false)
})

test('people know a relay by its configured address', () => {
  const choice = new RelayChoice([link('relay.example:20004', 1)])
  const name = choice.nameOf('id-relay.example:20004')
  assert.equal(name, 'relay.example:20004')
  assert.equal(choice.named(name), 'id-relay.example:20004')
  assert.equal(choice.nameOf('id-unknown'), 'id-unknown')
  assert.equal(choice.nameOf(undefined), 'unknown')
  assert.equal(choice.named('nobody'), undefined)
})

test('a far relay is given more time before another one is tried as well', () => {
  const choice = new RelayChoice([link('near', 20), link('far', 80), link('new', undefined)])
  assert.deepEqual(
    ['id-near', 'id-far', 'id-new', undefined].map((id) => choice.patienceMs(id)),
    [300, 960, 300, 300],
  )
})

test('a link to a node has as long as the nearest relay that reaches it is given', () => {
  const choice = new RelayChoice([link('near', 20, []), link('far', 80)])
  assert.deepEqual([choice.headStartMs('edge-b1'), choice.headStartMs('edge-c1')], [960, 300])
})

test('each relay but the one that is silent is worth an attempt', async () => {
  const choice = new RelayChoice([link('near', 20), link('far', 80)])
  const attempts = choice.attempts('edge-b1', async ({ address }) => address.text, 'id-near')
  assert.deepEqual(await Promise.all(attempts.map(({ begin }) => begin())), ['far:20004'])
  assert.deepEqual(
    attempts.map(({ patienceMs }) => patienceMs),
    [960],
  )
})

test('a relay that refuses says why', () => {
  const refusing = { ...link('near', 20, []), refusalOf: () => 'near does not relay for edge-b1: enough' }
  assert.equal(
    new RelayChoice([refusing, link('far', 80, [])]).whyNot('edge-b1'),
    'near does not relay for edge-b1: enough',
  )
  assert.equal(new RelayChoice([link('far', 80, [])]).whyNot('edge-b1'), 'it is not connected to any of our servers')
})

test('a refusal is final once every relay has spoken it', () => {
  const refusing = (name: string) => ({ ...link(name, 1, []), refusalOf: () => `${name} has revoked it` })
  assert.equal(new RelayChoice([]).finalRefusalOf('edge-b1'), undefined)
  assert.equal(new RelayChoice([refusing('one'), link('down', 1, [])]).finalRefusalOf('edge-b1'), undefined)
  const choice = new RelayChoice([refusing('one'), refusing('two')])
  assert.equal(choice.finalRefusalOf('edge-b1'), 'one has revoked it; two has revoked it')
})
