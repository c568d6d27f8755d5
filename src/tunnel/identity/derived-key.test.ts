import assert from 'node:assert/strict'
import { test } from 'node:test'
import { derivedSeedOf, deriveIdentity } from './derived-key.ts'

// Names and peer IDs as the Go system's own code gives them.
const vectors = {
  'k8s-master': '12D3KooWB5qVCMrMNLpBDfMu6o4dy6ci2UqDVsFVomcd2PfYVzfW',
  'k8s-node1': '12D3KooWErZ4m27CEinjcnXNvem2KFUJUFRBcd9NdcWnYRqyr1Sn',
  'ke-edge1': '12D3KooWF3RB8SoMRZht7MDqF6GoipSPdFxVb9ESRLU7NuPX6ifH',
  'ke-edge2': '12D3KooWSD4f5fZb5c9PQ6FPVd8Em4eKX3mRezcyqXSHUyomoy8S',
  'k8s-master-gateway': '12D3KooWK7jA1pdgBVvNicvVEE1Dp24YNcFTyUzwCBLyH7fVgKZ8',
}

for (const [name, peerId] of Object.entries(vectors)) {
  test(`the identity derived from ${name} is the one of the Go system`, async () => {
    assert.equal((await deriveIdentity(name)).peerId, peerId)
  })
}

test('the seed of a derived key is the one of the Go system, byte for byte', () => {
  const seed = Buffer.from(derivedSeedOf('k8s-master')).toString('hex')
  assert.equal(seed, 'a58a62add392dcc52ed5fb5d2a0a9f13249500dfb994ee1b31499254d5204176')
})

test('names that differ in one byte have different identities', async () => {
  const names = ['edge-1', 'edge-2', 'Edge-1', 'edge-1 ', '']
  const peerIds = await Promise.all(names.map(async (name) => (await deriveIdentity(name)).peerId))
  assert.equal(new Set(peerIds).size, names.length)
})
