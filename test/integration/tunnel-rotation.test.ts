/**
 * The pre-shared key of a mesh is rotated node by node, while every node stays reachable:
 *
 *     edge-a ── server ── edge-b     old alone → new with old as previous → new alone
 */
import assert from 'node:assert/strict'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TunnelConfig } from '../../src/tunnel/config.ts'
import {
  eventually,
  firstAnswer,
  isServerReady,
  knows,
  startTcpServer,
  startTestAgent,
  startTestServer,
  type TestAgent,
  TestFolder,
  type TestServer,
} from './tunnel-mesh.ts'

const nodeNames = ['server', 'edge-a', 'edge-b'] as const

/** The keys of one node, in files as an operator has them. */
class NodeKeys {
  readonly path: string
  readonly previousPath: string

  constructor(folder: TestFolder, name: string) {
    this.path = join(folder.path, `key-${name}`)
    this.previousPath = `${this.path}.previous`
  }

  config(previousPath = ''): TunnelConfig['psk'] {
    return { enable: true, path: this.path, previousPath }
  }
}

async function startMesh(folder: TestFolder, running: AsyncDisposableStack) {
  const keys = new Map(nodeNames.map((name) => [name, new NodeKeys(folder, name)]))
  const keysOf = (name: (typeof nodeNames)[number]) => keys.get(name) ?? assert.fail(name)
  for (const { path } of keys.values()) await writeFile(path, 'old secret')
  const server = running.use(await startTestServer(folder, { config: { psk: keysOf('server').config() } }))
  const agentOf = async (name: 'edge-a' | 'edge-b') =>
    running.use(await startTestAgent(folder, name, server.port, { config: { psk: keysOf(name).config() } }))
  const mesh = { server, a: await agentOf('edge-a'), b: await agentOf('edge-b'), keysOf }
  return { ...mesh, servers: [`127.0.0.1:${server.port}`] }
}

/** Ends all connections of the agent and waits until it has joined again, with whatever key works. */
async function rejoin(agent: TestAgent, servers: string[]): Promise<void> {
  await agent.tunnel.reload({ servers: [], relayNodes: [] })
  await agent.tunnel.reload({ servers, relayNodes: [] })
  await eventually(`${agent.name} is back`, () => isServerReady(agent), 15_000)
}

test('a rotation node by node, each with both keys for a while, keeps all nodes reachable', async () => {
  await using folder = await TestFolder.create()
  await using running = new AsyncDisposableStack()
  const { server, a, b, keysOf, servers } = await startMesh(folder, running)
  await using target = await startTcpServer((socket) => void socket.end('hello'))
  b.serve('10.1.1.1', target.port)
  a.serve('10.1.1.1', target.port)
  const nodes: Record<(typeof nodeNames)[number], TestAgent | TestServer> = { server, 'edge-a': a, 'edge-b': b }
  const reload = async (name: (typeof nodeNames)[number], previousPath: string) => {
    const psk = keysOf(name).config(previousPath)
    await nodes[name].tunnel.reload({ psk, trust: 'psk', peers: {}, revoked: [], servers, relayNodes: [] })
  }
  const assertWhole = async () => {
    for (const agent of [a, b]) await rejoin(agent, servers)
    for (const [from, to] of [
      [a, 'edge-b'],
      [b, 'edge-a'],
    ] as const) {
      await eventually('the other is known', () => knows(from, to))
      assert.equal(await firstAnswer(from, to, target.port), 'hello')
    }
  }
  await assertWhole()
  for (const name of ['edge-a', 'server', 'edge-b'] as const) {
    const { path, previousPath } = keysOf(name)
    await copyFile(path, previousPath)
    await reload(name, previousPath)
    await writeFile(path, 'new secret')
    await reload(name, previousPath)
    await assertWhole()
  }
  for (const name of ['edge-b', 'server', 'edge-a'] as const) {
    await reload(name, '')
    await assertWhole()
  }
  const told = [...server.log, ...a.log, ...b.log].filter(({ message }) => message.includes('pre-shared key mismatch'))
  assert.deepEqual(told, [])
})

test('a key that changes in its file is followed, and one that cannot be read is not', async () => {
  await using folder = await TestFolder.create()
  await using running = new AsyncDisposableStack()
  const { server, a, b, keysOf, servers } = await startMesh(folder, running)
  await eventually('both are connected', () => isServerReady(a) && isServerReady(b))
  await writeFile(keysOf('server').path, 'new secret')
  await writeFile(keysOf('edge-a').path, 'new secret')
  await writeFile(keysOf('edge-b').path, '')
  const isTold = (text: string) => (line: { readonly message: string }) => line.message === text
  await eventually('the server follows', () => server.log.some(isTold('pre-shared key reloaded')), 15_000)
  await eventually('the agent follows', () => a.log.some(isTold('pre-shared key reloaded')), 15_000)
  const refused = 'pre-shared key not reloaded; the one in force stays'
  await eventually('the other complains', () => b.log.some(isTold(refused)), 15_000)
  await rejoin(a, servers)
  await b.tunnel.reload({ servers: [], relayNodes: [] })
  await b.tunnel.reload({ servers, relayNodes: [] })
  const isMismatch = ({ message }: { readonly message: string }) => message.includes('pre-shared key mismatch')
  await eventually('the agent names the mismatch', () => b.log.some(isMismatch), 15_000)
  await eventually('so does the server', () => server.log.some(isMismatch), 15_000)
  assert.equal(isServerReady(b), false)
})
