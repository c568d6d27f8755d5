import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { deriveIdentity } from '../identity/derived-key.ts'
import { Admission, admissionRulesOf, mayRelayOf, openAdmission } from './admission.ts'

const a = '12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X'
const b = '12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3'
const own = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo'
const pins = new Map([
  ['edge-a', a],
  ['edge-b', b],
])

suite('names', () => {
  test('belong to the identity that came first, unless the configuration says otherwise', () => {
    const admission = new Admission({ ...openAdmission, peers: { 'edge-a': b } }, pins)
    assert.deepEqual(
      ['edge-a', 'edge-b', 'edge-c'].map((name) => admission.ownerOf(name)),
      [b, b, undefined],
    )
    assert.match(admission.refusalOf('edge-a', a)?.remedy ?? '', /edgeTunnel.peers names the identity of edge-a/)
    assert.match(admission.refusalOf('edge-b', a)?.remedy ?? '', /edgemesh unpin edge-b/)
    assert.equal(admission.refusalOf('edge-c', a), undefined)
  })

  test('that every object has are none that somebody owns', () => {
    const admission = new Admission(openAdmission, pins)
    for (const name of ['constructor', '__proto__', 'toString']) assert.equal(admission.ownerOf(name), undefined)
  })

  test('are the first comer’s no more where trust is pinned', () => {
    const admission = new Admission({ ...openAdmission, trust: 'pinned' }, pins)
    assert.equal(admission.refusalOf('edge-a', a), undefined)
    assert.deepEqual(admission.refusalOf('edge-c', a), {
      kind: 'refused',
      reason: 'the name edge-c is not known, and edgeTunnel.trust is pinned',
      remedy: `to let it join, add edge-c: ${a} to edgeTunnel.peers`,
    })
  })
})

suite('revocation', () => {
  test('of a name holds for the identity that it belongs to, and the other way round', () => {
    for (const revoked of [['edge-a'], [a]]) {
      const admission = new Admission({ ...openAdmission, revoked }, pins)
      assert.deepEqual([...admission.revoked], [a])
      assert.equal(admission.refusalOf('edge-z', a)?.reason, `edge-z (${a}) is revoked`)
      assert.equal(admission.refusalOf('edge-b', b), undefined)
    }
  })

  test('of a name leaves it to nobody; of an identity leaves its name to another one', () => {
    assert.equal(new Admission({ ...openAdmission, revoked: ['edge-a'] }, pins).refusalOf('edge-a', b)?.kind, 'refused')
    const admission = new Admission({ ...openAdmission, revoked: [a], peers: { 'edge-a': b } }, pins)
    assert.equal(admission.refusalOf('edge-a', b), undefined)
  })

  test('does not keep a node from itself', () => {
    const admission = new Admission({ ...openAdmission, revoked: [own], peers: { me: b } }, pins, own)
    assert.equal(admission.refusalOf('me', own), undefined)
    assert.equal(admission.revoked.size, 0)
  })

  test('of a name holds for the identity that follows from it where identities are derived', async () => {
    const rules = { ...openAdmission, revoked: ['edge-x'] }
    const { peerId } = await deriveIdentity('edge-x')
    assert.deepEqual((await admissionRulesOf({ ...rules, identity: 'derived' })).revoked, ['edge-x', peerId])
    assert.deepEqual((await admissionRulesOf({ ...rules, identity: 'random' })).revoked, ['edge-x'])
  })
})

test('a relay joins nodes with a name, and where identities are derived all but revoked ones', () => {
  const book = { revoked: new Set([b]), nameOf: (peerId: string) => (peerId === a ? 'edge-a' : undefined) }
  const allowed = (identity: 'random' | 'derived') => [a, b, own].filter(mayRelayOf(book, { identity }))
  assert.deepEqual(allowed('random'), [a])
  assert.deepEqual(allowed('derived'), [a, own])
})
