import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { suite, test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { KeyRing } from '../identity/key-ring.ts'
import {
  agreedVersion,
  encodeHello,
  type Hello,
  type LinkBinding,
  type LinkCredentials,
  linkVersions,
  parseHello,
  verifyHello,
} from './hello.ts'

const secret = randomBytes(32)

async function createCredentials(key: Uint8Array = secret): Promise<LinkCredentials> {
  const privateKey = await generateKeyPair('Ed25519')
  return { identity: { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() }, keyRing: KeyRing.of(key) }
}

const client = await createCredentials()
const server = await createCredentials()
const binding: LinkBinding = {
  exporter: randomBytes(32),
  clientPeerId: client.identity.peerId,
  serverPeerId: server.identity.peerId,
}
const hello: Hello = {
  versions: linkVersions,
  capabilities: ['move'],
  name: 'edge-a',
  peerId: client.identity.peerId,
  role: 'agent',
  sequence: 7,
  session: '0123456789abcdef',
  kind: 'bulk',
}

suite('a HELLO', () => {
  test('is read by the other end as it was said', async () => {
    const payload = await encodeHello(hello, 'client', binding, client)
    assert.deepEqual(await verifyHello(payload, 'client', binding, server), hello)
    assert.deepEqual(parseHello(payload), hello)
  })

  test('may say more than this version knows', async () => {
    const payload = await encodeHello({ ...hello, ...{ later: true } }, 'client', binding, client)
    assert.deepEqual(await verifyHello(payload, 'client', binding, server), hello)
  })

  test('holds for one connection, one side and one pair of nodes alone', async () => {
    const payload = await encodeHello(hello, 'client', binding, client)
    const others: LinkBinding[] = [
      { ...binding, exporter: randomBytes(32) },
      { ...binding, serverPeerId: client.identity.peerId },
      { ...binding, clientPeerId: server.identity.peerId },
    ]
    for (const other of others)
      await assert.rejects(verifyHello(payload, 'client', other, server), { name: 'HelloError' })
    await assert.rejects(verifyHello(payload, 'server', binding, server), { name: 'HelloError' })
  })

  test('with another pre-shared key is refused, and the key is named', async () => {
    for (const keyRing of [KeyRing.of(randomBytes(32)), undefined]) {
      const payload = await encodeHello(hello, 'client', binding, { ...client, keyRing })
      await assert.rejects(verifyHello(payload, 'client', binding, server), {
        isKeyMismatch: true,
        message: 'the pre-shared keys of the two nodes differ',
      })
    }
    const payload = await encodeHello(hello, 'client', binding, client)
    await assert.rejects(verifyHello(payload, 'client', binding, { keyRing: undefined }), { isKeyMismatch: true })
  })

  test('needs the key of the identity that it names, also of somebody with the pre-shared key', async () => {
    const thief = await createCredentials()
    const payload = await encodeHello(hello, 'client', binding, thief)
    await assert.rejects(verifyHello(payload, 'client', binding, server), /edge-a does not hold the key of/)
    const own = await encodeHello({ ...hello, peerId: thief.identity.peerId }, 'client', binding, thief)
    await assert.rejects(verifyHello(own, 'client', binding, server), /expected .* answered/)
  })

  test('that is damaged is refused', async () => {
    for (const payload of ['', 'x', '{}', '{"body":"{}","signature":"","mac":""}']) {
      await assert.rejects(verifyHello(Buffer.from(payload), 'client', binding, server), /cannot be read/)
    }
  })

  test('of an open mesh needs no key', async () => {
    const open = await createCredentials(undefined)
    const openBinding = { ...binding, clientPeerId: open.identity.peerId }
    const said = { ...hello, peerId: open.identity.peerId }
    const payload = await encodeHello(said, 'client', openBinding, { ...open, keyRing: undefined })
    assert.deepEqual(await verifyHello(payload, 'client', openBinding, { keyRing: undefined }), said)
  })
})

suite('versions', () => {
  test('the highest that both speak is taken', () => {
    assert.equal(agreedVersion({ lowest: 1, highest: 2 }, { lowest: 2, highest: 3 }), 2)
    assert.equal(agreedVersion({ lowest: 1, highest: 2 }, { lowest: 1, highest: 1 }), 1)
  })

  test('without one in common the link is refused with both ranges', () => {
    assert.throws(
      () => agreedVersion({ lowest: 3, highest: 4 }, { lowest: 1, highest: 2 }),
      /here 3 to 4, there 1 to 2; upgrade the older node/,
    )
  })

  test('this version speaks with the one before it', () => {
    const before = Math.max(1, linkVersions.highest - 1)
    assert.equal(agreedVersion(linkVersions, { lowest: before, highest: before }), before)
  })
})
