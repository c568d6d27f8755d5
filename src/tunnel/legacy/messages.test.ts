import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { FrameError } from '../frames.ts'
import { decodeMessage, encodeMessage, messageTypes, readMessage, writeMessage } from './messages.ts'

const never = new AbortController().signal
const discovery = { type: messageTypes.connect, protocol: 'MDNS', nodeName: 'ke-edge1' }
const proxy = { type: messageTypes.connect, protocol: 'tcp', nodeName: 'ke-edge1', ip: '10.244.0.8', port: 8080 }

// Bytes as agents of the Go system write them.
const vectors = [
  ['a discovery request', discovery, '1208001204' + '4d444e53' + '1a08' + '6b652d6564676531'],
  ['a proxy request', proxy, '2008001203' + '746370' + '1a08' + '6b652d6564676531' + '220a31302e3234342e302e3828903f'],
  ['a failure', { type: messageTypes.failed }, '020802'],
] as const

suite('messages of the Go system', () => {
  for (const [what, message, hex] of vectors) {
    test(`${what} has its bytes`, () => {
      assert.equal(encodeMessage(message).toString('hex'), hex)
      assert.deepEqual(decodeMessage(Buffer.from(hex, 'hex').subarray(1)), message)
    })
  }

  test('are read one by one, and what follows stays in the stream', async () => {
    const [ours, theirs] = createMemoryStreamPair()
    writeMessage(theirs, proxy)
    writeMessage(theirs, { type: messageTypes.success })
    theirs.write('raw bytes')
    assert.deepEqual(await readMessage(ours, never), proxy)
    assert.deepEqual(await readMessage(ours, never), { type: messageTypes.success })
    assert.equal(String(ours.read() ?? (await new Promise((resolve) => ours.once('data', resolve)))), 'raw bytes')
  })

  test('that never come are told from those that are cut off', async () => {
    const [ours, theirs] = createMemoryStreamPair()
    theirs.end()
    assert.equal(await readMessage(ours, never), undefined)
    const [mine, cut] = createMemoryStreamPair()
    cut.end(encodeMessage(proxy).subarray(0, 9))
    await assert.rejects(readMessage(mine, never), FrameError)
  })

  test('with a name longer than a byte can count come back whole', () => {
    const long = { ...discovery, nodeName: 'n'.repeat(253) }
    const bytes = encodeMessage(long)
    assert.equal(bytes.readUInt8(1), 2)
    assert.deepEqual(decodeMessage(bytes.subarray(2)), long)
  })

  test('may have fields that are not known', () => {
    const unknown = Buffer.from('30' + '05' + '39' + '0102030405060708' + '42' + '01ff' + '4d' + '01020304', 'hex')
    assert.deepEqual(decodeMessage(Buffer.concat([encodeMessage(proxy).subarray(1), unknown])), proxy)
  })

  test('that are too long are refused before they are read', async () => {
    for (const hex of ['8140', 'ffff7f', 'ffffffff0f']) {
      const [ours, theirs] = createMemoryStreamPair()
      theirs.write(Buffer.from(hex, 'hex'))
      await assert.rejects(readMessage(ours, never), FrameError, hex)
    }
  })

  test('of random bytes are refused or read, and nothing else happens', () => {
    let seed = 1
    const random = () => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed
    }
    let refused = 0
    for (let round = 0; round < 20_000; round++) {
      const bytes = Buffer.from(Array.from({ length: random() % 40 }, () => random() % 256))
      try {
        decodeMessage(bytes)
      } catch (error) {
        assert.ok(error instanceof FrameError)
        refused += 1
      }
    }
    assert.ok(refused > 1000 && refused < 20_000, `${refused} refused`)
  })
})
