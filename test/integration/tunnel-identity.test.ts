/**
 * Identities that move, and those that are replaced:
 *
 *     edge-a ---- server ---- edge-b ---- TCP target
 */
import assert from 'node:assert/strict'
import { copyFile, mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  eventually,
  firstAnswer,
  isServerReady,
  knows,
  startTcpServer,
  startTestAgent,
  startTestServer,
  TestFolder,
} from './tunnel-mesh.ts'

const patienceMs = 30_000

test('a server that moves with its identity.key is the same server at the new address, another one there is refused', async () => {
  await using folder = await TestFolder.create()
  await using target = await startTcpServer((socket) => void socket.end('hello'))
  const first = await startTestServer(folder, { name: 'first' })
  const { peerId } = first.tunnel.status()
  await using a = await startTestAgent(folder, 'edge-a', first.port)
  await using b = await startTestAgent(folder, 'edge-b', first.port)
  b.serve('10.1.1.1', target.port)
  await eventually('all have met', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'), patienceMs)
  await mkdir(join(folder.path, 'second'), { mode: 0o700 })
  await copyFile(join(first.stateDir, 'identity.key'), join(folder.path, 'second', 'identity.key'))
  await first[Symbol.asyncDispose]()
  await using second = await startTestServer(folder, { name: 'second' })
  assert.equal(second.tunnel.status().peerId, peerId)
  const moved = { servers: [`127.0.0.1:${second.port}/p2p/${peerId}`], relayNodes: [] }
  for (const agent of [a, b]) await agent.tunnel.reload(moved)
  assert.equal(await firstAnswer(a, 'edge-b', target.port), 'hello')

  await using impostor = await startTestServer(folder, { name: 'impostor' })
  await a.tunnel.reload({ servers: [`127.0.0.1:${impostor.port}/p2p/${peerId}`], relayNodes: [] })
  await eventually('it is refused', () => a.log.some(({ message }) => message.startsWith('server refused')), patienceMs)
  const line = a.log.find(({ message }) => message.startsWith('server refused'))
  assert.match(
    String(line?.fields.error),
    new RegExp(`is ${impostor.tunnel.status().peerId}, but ${peerId} was expected`),
  )
  assert.match(line?.fields.remedy ?? '', /restore its identity.key.*\/p2p\//)
})

test('a node that passes its name on to a new key is known by that at once, and stays so over its next start', async () => {
  await using folder = await TestFolder.create()
  await using target = await startTcpServer((socket) => void socket.end('hello'))
  await using server = await startTestServer(folder)
  await using a = await startTestAgent(folder, 'edge-a', server.port)
  const first = await startTestAgent(folder, 'edge-b', server.port)
  const { peerId } = first.tunnel.status()
  await eventually('all have met', () => isServerReady(a) && isServerReady(first) && knows(a, 'edge-b'), patienceMs)
  await first[Symbol.asyncDispose]()
  const key = join(first.stateDir, 'identity.key')
  await rename(key, `${key}.previous`)
  for (const start of ['after the rotation', 'and again']) {
    await using b = await startTestAgent(folder, 'edge-b', server.port)
    b.serve('10.1.1.1', target.port)
    const fresh = b.tunnel.status().peerId
    assert.notEqual(fresh, peerId)
    const ofB = () => a.tunnel.status().peers.find(({ name }) => name === 'edge-b')?.peerId
    await eventually(`it is known ${start}`, () => isServerReady(b) && ofB() === fresh, patienceMs)
    assert.equal(await firstAnswer(a, 'edge-b', target.port), 'hello')
  }
  assert.ok(server.log.some(({ message }) => message === 'identity rotated'))
})
