import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { maxEncodedRecordLength, type NameRecord, NameRecordError, openRecord, signRecord } from './name-record.ts'

const key = await generateKeyPair('Ed25519')
const record: NameRecord = {
  name: 'edge-a1.example',
  peerId: peerIdFromPrivateKey(key).toString(),
  role: 'agent',
  sequence: 1_700_000_000_000,
  addresses: ['/ip4/192.168.1.11/tcp/20006'],
  time: 1_700_000_000_000,
}

test('a signed record is read back as it was', async () => {
  const { encoded } = await signRecord(record, key)
  assert.deepEqual(await openRecord(encoded), { record, encoded })
})

test('a record whose content was changed does not hold', async () => {
  const { encoded } = await signRecord(record, key)
  const [version, payload = '', signature] = encoded.split('.')
  const forged = Buffer.from(payload, 'base64url').toString().replace('192.168.1.11', '192.168.1.66')
  const changed = [version, Buffer.from(forged).toString('base64url'), signature].join('.')
  await assert.rejects(openRecord(changed), /it is not signed by 12D3KooW/)
})

test('a record that another key signed does not hold', async () => {
  const other = await generateKeyPair('Ed25519')
  const { encoded } = await signRecord(record, other)
  await assert.rejects(openRecord(encoded), /it is not signed by/)
})

test('a signature made for another purpose does not hold', async () => {
  const payload = Buffer.from(JSON.stringify(record))
  const signature = Buffer.from(await key.sign(payload))
  await assert.rejects(openRecord(`v1.${payload.toString('base64url')}.${signature.toString('base64url')}`))
})

test('text that is no record, or too long, is refused', async () => {
  for (const text of ['', 'v1', 'v2.AAAA.AAAA', 'v1..', 'v1.AAAA.AAAA', `v1.${'A'.repeat(maxEncodedRecordLength)}.A`]) {
    await assert.rejects(openRecord(text), NameRecordError)
  }
})

for (const [what, change] of [
  ['a name with upper case', { name: 'Edge' }],
  ['a name with a slash', { name: 'a/b' }],
  ['an empty name', { name: '' }],
  ['a name of 254 characters', { name: 'a'.repeat(254) }],
  ['no sequence', { sequence: 0 }],
  ['33 addresses', { addresses: Array.from({ length: 33 }, (_, index) => `/ip4/10.0.0.${index}/tcp/1`) }],
  ['an address that is none', { addresses: ['10.0.0.1'] }],
  ['an unknown role', { role: 'king' }],
] as const) {
  test(`a record with ${what} cannot be signed`, async () => {
    await assert.rejects(signRecord({ ...record, ...change } as NameRecord, key), NameRecordError)
  })
}

test('an identity that is none is refused', async () => {
  const { encoded } = await signRecord({ ...record, peerId: 'nobody' }, key)
  await assert.rejects(openRecord(encoded), NameRecordError)
})
