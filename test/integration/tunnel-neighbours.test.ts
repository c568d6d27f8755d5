/**
 * A LAN whose server is gone; edge-a comes back and has never heard of edge-c:
 *
 *     edge-a ---- edge-b ---- edge-c          server (away)
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  eventually,
  firstAnswer,
  isServerReady,
  knows,
  pathTo,
  startTcpServer,
  startTestAgent,
  startTestServer,
  TestFolder,
} from './tunnel-mesh.ts'

const interfaces = [{ interface: 'eth0', address: '127.0.0.1', prefixLength: 8 }]
const patienceMs = 30_000

async function startLan(running: AsyncDisposableStack) {
  const folder = running.use(await TestFolder.create())
  const server = await startTestServer(folder)
  const agentOf = (name: string) => startTestAgent(folder, name, server.port, { interfaces })
  const b = running.use(await agentOf('edge-b'))
  const early = await agentOf('edge-a')
  await eventually('two have met', () => isServerReady(b) && knows(early, 'edge-b') && knows(b, 'edge-a'), patienceMs)
  await early[Symbol.asyncDispose]()
  const c = running.use(await agentOf('edge-c'))
  await eventually('the other two have met', () => pathTo(b, 'edge-c') === 'lan' && isServerReady(c), patienceMs)
  return { server, b, c, agentOf }
}

test('neighbours hand each other records while no server is there, so that a LAN that is cut off stays whole', async () => {
  await using running = new AsyncDisposableStack()
  const { server, b, c, agentOf } = await startLan(running)
  await server[Symbol.asyncDispose]()
  await eventually('it is gone', () => ![b, c].some(isServerReady), patienceMs)
  const a = running.use(await agentOf('edge-a'))
  const target = running.use(await startTcpServer((socket) => void socket.end('hello')))
  for (const agent of [a, b, c]) agent.serve('10.1.1.1', target.port)
  await eventually('it hears of whom it never met', () => knows(a, 'edge-c'), patienceMs)
  assert.equal(await firstAnswer(a, 'edge-c', target.port), 'hello')
  assert.equal(await firstAnswer(c, 'edge-a', target.port), 'hello')
  assert.equal(pathTo(a, 'edge-c'), 'lan')
})

test('while a server is there nobody else is asked or believed', async () => {
  await using running = new AsyncDisposableStack()
  const { server, b, agentOf } = await startLan(running)
  running.use(server)
  // It reaches its neighbour, and the server does not tell it of the third.
  const a = running.use(await agentOf('edge-a'))
  await eventually('they are neighbours', () => pathTo(b, 'edge-a') === 'lan' && isServerReady(a), patienceMs)
  await eventually('it knows all from the server', () => knows(a, 'edge-c'), patienceMs)
  const lines = a.log.filter(({ message }) => message === 'records not exchanged')
  assert.deepEqual(lines, [])
})
