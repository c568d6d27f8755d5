import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { FrameError } from '../frames.ts'
import { deriveIdentity } from '../identity/derived-key.ts'
import {
  type DhtMessage,
  decodeDhtMessage,
  dhtTypes,
  encodeDhtMessage,
  readDhtMessage,
  rendezvousKeyOf,
  textOfPeerId,
  writeDhtMessage,
} from './dht-messages.ts'

const never = new AbortController().signal
const key = rendezvousKeyOf('EDGEMESH_PLAYGOUND')
const { peerId } = await deriveIdentity('edge-a2')
const addresses = ['/ip4/127.0.0.1/tcp/20006', '/ip4/192.168.1.12/tcp/20006']

// Messages as agents of the Go system (v1.16) have sent them, the node edge-a2 among them, less their lengths.
const keyHex = '12209fffe3352d69515eed7270bdaa59956e4c3473a0dd24df9049cddd6e0b6e3c72'
const idHex = '0024080112207bbe8d3b48d680184993fbd069ed1b0ca805ea9ebbeed5a454076ae918c72b0e'
const level = '5001'
const provided = `08021222${keyHex}4a3c0a26${idHex}1208047f000001064e26120804c0a8010c064e26${level}`
const asked = `08031222${keyHex}${level}`
const sought = `08041226${idHex}${level}`

const empty = { key: Buffer.alloc(0), closer: [], providers: [] }

function decoded(hex: string): DhtMessage {
  return decodeDhtMessage(Buffer.from(hex, 'hex'))
}

suite('messages of Kademlia', () => {
  test('by which an agent of the Go system tells of itself and asks are read', () => {
    assert.deepEqual(decoded(provided), {
      type: dhtTypes.addProvider,
      key,
      closer: [],
      providers: [{ peerId, addresses }],
    })
    assert.deepEqual(decoded(asked), { ...empty, type: dhtTypes.getProviders, key })
    const question = decoded(sought)
    assert.deepEqual([question.type, textOfPeerId(question.key)], [dhtTypes.findNode, peerId])
  })

  test('have the bytes that it sends, less the level, which means nothing', () => {
    const telling = encodeDhtMessage({ type: dhtTypes.addProvider, key, providers: [{ peerId, addresses }] })
    assert.equal(telling.subarray(1).toString('hex'), provided.slice(0, -level.length))
    const asking = encodeDhtMessage({ type: dhtTypes.getProviders, key })
    assert.equal(asking.subarray(1).toString('hex'), asked.slice(0, -level.length))
  })

  test('come back as they were, one after the other', async () => {
    const [near, far] = createMemoryStreamPair()
    const circuit = `${addresses[1]}/p2p/${peerId}/p2p-circuit`
    const closer = [{ peerId, addresses: [circuit] }]
    const providers = Array.from({ length: 500 }, () => ({ peerId, addresses }))
    const answer = { type: dhtTypes.getProviders, key, closer, providers }
    writeDhtMessage(near, answer)
    writeDhtMessage(near, { type: dhtTypes.ping })
    near.end()
    assert.deepEqual(await readDhtMessage(far, never), answer)
    assert.deepEqual(await readDhtMessage(far, never), { ...empty, type: dhtTypes.ping })
    assert.equal(await readDhtMessage(far, never), undefined)
  })

  test('may tell of nodes and addresses of kinds that no agent has; these are left out', () => {
    const rsaId = `1220${'ab'.repeat(32)}`
    const badKey = `00240801122${'0'}${'ff'.repeat(32)}`
    for (const id of [rsaId, badKey.slice(0, 20), '']) {
      assert.deepEqual(decoded(`08034a${lengthHex(id)}0a${lengthHex(id, 0)}${id}`).providers, [], id)
    }
    const unknownAddress = '1203ffffff'
    const peer = `0a26${idHex}${unknownAddress}120804c0a8010c064e26`
    assert.deepEqual(decoded(`08034a${lengthHex(peer, 0)}${peer}`).providers, [{ peerId, addresses: [addresses[1]] }])
  })

  test('may not name addresses without end', () => {
    const peer = `0a26${idHex}${'120804c0a8010c064e26'.repeat(8)}`
    const many = `0a26${idHex}${'120804c0a8010c064e26'.repeat(100)}`
    assert.equal(decoded(`08034a${lengthHex(peer, 0)}${peer}`).providers[0]?.addresses.length, 8)
    assert.equal(decoded(`08034a${lengthHex(many, 0)}${many}`).providers[0]?.addresses.length, 16)
  })

  test('that are cut off or longer than any mesh needs are refused', async () => {
    for (const cut of [provided.slice(0, 40), `${asked}12ff01`, '0a']) assert.throws(() => decoded(cut), FrameError)
    const [near, far] = createMemoryStreamPair()
    near.write(Buffer.from('ffff7f', 'hex'))
    near.end()
    await assert.rejects(readDhtMessage(far, never), FrameError)
    const [long, longer] = createMemoryStreamPair()
    long.write(Buffer.from('ffffff01', 'hex'))
    await assert.rejects(readDhtMessage(longer, never), FrameError)
  })
})

/** The length of a field that holds these bytes, after `more` bytes of its own head, as a varint. */
function lengthHex(hex: string, more = 2): string {
  const length = hex.length / 2 + more
  return length < 128
    ? length.toString(16).padStart(2, '0')
    : Buffer.of((length % 128) | 128, length >> 7).toString('hex')
}
