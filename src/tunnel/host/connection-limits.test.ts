import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MultiaddrConnection, PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { addressOf, limitConnections } from './connection-limits.ts'

const peer = (id: string) => ({ toString: () => id }) as PeerId
let port = 40_000

function setUp() {
  const asked: string[] = []
  const next = {
    denyInboundConnection(connection: MultiaddrConnection) {
      asked.push(addressOf(connection.remoteAddr.toString()))
      return connection.remoteAddr.toString().includes('203.0.113.9')
    },
  }
  const gate = limitConnections(next, { handshakes: 4, handshakesPerAddress: 2, perPeer: 2, perAddress: 3 })
  const connect = async (host: string) => {
    port += 1
    const remoteAddr = multiaddr(`/ip4/${host}/tcp/${port}`)
    const connection = Object.assign(new EventTarget(), { remoteAddr }) as unknown as MultiaddrConnection
    const isDenied = await gate.denyInboundConnection?.(connection)
    return {
      isDenied,
      close: () => void connection.dispatchEvent(new Event('close')),
      /** True when a peer that has proven its identity is let in. */
      finishAs: async (id: string) => !(await gate.denyInboundUpgradedConnection?.(peer(id), connection)),
    }
  }
  return { connect, asked }
}

test('one address has so many handshakes under way, and others are let in meanwhile', async () => {
  const { connect, asked } = setUp()
  const first = await connect('192.0.2.1')
  await connect('192.0.2.1')
  assert.equal((await connect('192.0.2.1')).isDenied, true)
  assert.equal((await connect('192.0.2.2')).isDenied, false)
  first.close()
  assert.equal((await connect('192.0.2.1')).isDenied, false, 'one has ended')
  assert.equal(asked.length, 4, 'nobody else is asked about those that are beyond the limit')
})

test('handshakes of all addresses together are bounded, and those that are done count no more', async () => {
  const { connect } = setUp()
  const shaking = await Promise.all(['1', '2', '3', '4'].map((host) => connect(`192.0.2.${host}`)))
  assert.equal((await connect('192.0.2.5')).isDenied, true)
  assert.equal(await shaking[0]?.finishAs('a'), true)
  assert.equal((await connect('192.0.2.5')).isDenied, false)
  shaking[0]?.close()
  assert.equal((await connect('192.0.2.6')).isDenied, true, 'the end of one that was done makes no more room')
})

test('one identity has so many connections, wherever they come from', async () => {
  const { connect } = setUp()
  const finish = async (host: string, id: string) => {
    const connection = await connect(host)
    return { isIn: await connection.finishAs(id), close: connection.close }
  }
  const first = await finish('192.0.2.1', 'a')
  assert.equal((await finish('192.0.2.2', 'a')).isIn, true)
  assert.equal((await finish('192.0.2.3', 'a')).isIn, false)
  assert.equal((await finish('192.0.2.3', 'b')).isIn, true)
  first.close()
  assert.equal((await finish('192.0.2.4', 'a')).isIn, true)
})

test('one address has so many connections, whoever they are of', async () => {
  const { connect } = setUp()
  const finish = async (host: string, id: string) => {
    const connection = await connect(host)
    return { isIn: await connection.finishAs(id), close: connection.close }
  }
  const first = await finish('192.0.2.1', 'a')
  assert.deepEqual([(await finish('192.0.2.1', 'b')).isIn, (await finish('192.0.2.1', 'c')).isIn], [true, true])
  const refused = await finish('192.0.2.1', 'd')
  assert.equal(refused.isIn, false)
  assert.equal((await finish('192.0.2.2', 'd')).isIn, true)
  refused.close()
  assert.equal((await finish('192.0.2.1', 'e')).isIn, false, 'the end of one that was refused makes no room')
  first.close()
  assert.equal((await finish('192.0.2.1', 'e')).isIn, true)
})

test('what the next gate refuses stays refused, and counts until it is closed', async () => {
  const { connect } = setUp()
  const refused = await connect('203.0.113.9')
  assert.equal(refused.isDenied, true)
  await connect('203.0.113.9')
  refused.close()
  assert.equal((await connect('203.0.113.9')).isDenied, true)
})
