import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { allFeatures, limitsOf, probeFeatures } from './iptables-features.ts'

const { signal } = new AbortController()

test('a kernel with everything is asked once, and holds nothing of ours afterwards', async () => {
  const fake = createFakeIptables()
  assert.deepEqual(await probeFeatures(fake, signal), allFeatures)
  assert.equal(fake.texts.length, 2)
  assert.doesNotMatch(JSON.stringify([...fake.tables].map(([, chains]) => [...chains])), /EDGEMESH/)
})

test('what is missing is found one by one, and told with what follows', async () => {
  for (const [word, name] of [
    ['-m comment', 'comment'],
    ['-m statistic', 'statistic'],
    ['-m recent', 'recent'],
    ['-m cluster', 'cluster'],
    ['-m addrtype', 'addrtype'],
    ['--notrack', 'notrack'],
  ] as const) {
    const fake = createFakeIptables()
    fake.refusals.add(word)
    const features = await probeFeatures(fake, signal)
    assert.deepEqual(features, { ...allFeatures, [name]: false })
    assert.equal(limitsOf(features).filter((limit) => limit.includes('is missing')).length, 1)
    assert.doesNotMatch(JSON.stringify([...fake.tables].map(([, chains]) => [...chains])), /EDGEMESH/)
  }
})

test('a kernel that cannot translate, refuse or track is of no use', async () => {
  for (const word of ['-j DNAT', '-j MASQUERADE', '-j REJECT', '-m conntrack']) {
    const fake = createFakeIptables()
    fake.refusals.add(word)
    await assert.rejects(probeFeatures(fake, signal), { code: 'EDGEMESH_RULESET_REJECTED' })
  }
})

test('with everything there is one limit left', () => {
  assert.deepEqual(limitsOf(allFeatures).length, 1)
  assert.match(limitsOf(allFeatures)[0] ?? '', /more than 8 endpoints/)
})
