/** What happens to paths when servers and neighbours come, go, restart, or are not who they should be. */
import assert from 'node:assert/strict'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import type { NamedAddress } from '../../src/linux/index.ts'
import type { TunnelConfig } from '../../src/tunnel/config.ts'
import {
  dial,
  eventually,
  isServerReady,
  knows,
  pathTo,
  readAll,
  startTcpServer,
  startTestAgent,
  startTestServer,
  type TestAgent,
  TestFolder,
} from './tunnel-mesh.ts'

/** Makes 127.0.0.1 look like an address in a LAN that agents share. */
const lan: readonly NamedAddress[] = [{ interface: 'lan0', address: '127.0.0.1', prefixLength: 8 }]

const greeting = () => startTcpServer((socket) => void socket.end('hello'))

test('after a restart of the server agents are back within 2 s and new flows work within 5 s', async (context) => {
  await using folder = await TestFolder.create()
  // Its flow waits for a server that does not come back in time.
  const config = { resumeSeconds: 1 }
  const first = await startTestServer(folder)
  await using a = await startTestAgent(folder, 'edge-a', first.port, { config })
  await using b = await startTestAgent(folder, 'edge-b', first.port, { config })
  await using target = await greeting()
  b.serve('10.1.1.1', target.port)
  await eventually('both are connected', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'))
  assert.equal((await readAll(await dial(a, 'edge-b', target.port))).toString(), 'hello')
  const flow = await dial(a, 'edge-b', target.port)
  await first[Symbol.asyncDispose]()
  await assert.rejects(finished(flow.resume()), { name: 'PathLostError', code: 'ECONNRESET' })
  await eventually('the loss is noticed', () => !isServerReady(a) && !isServerReady(b))
  await assert.rejects(dial(a, 'edge-b', target.port), {
    failure: 'no-path',
    message: /Cannot reach edge-b: it is no neighbour that answers; no server is connected: 127\.0\.0\.1:\d+ \(/,
  })
  await using _second = await startTestServer(folder, { port: first.port })
  const reconnected = await eventually('both are back', () => isServerReady(a) && isServerReady(b))
  const start = performance.now()
  assert.equal((await readAll(await dial(a, 'edge-b', target.port))).toString(), 'hello')
  const flowed = performance.now() - start
  context.diagnostic(`agents back after ${reconnected.toFixed()} ms, flow after ${flowed.toFixed()} ms more`)
  assert.ok(reconnected < 2000, `agents back after ${reconnected} ms`)
  assert.ok(reconnected + flowed < 5000)
})

test('neighbours connect directly by themselves, and meet again without any server after a restart', async () => {
  await using folder = await TestFolder.create()
  const server = await startTestServer(folder)
  await using target = await greeting()
  const portOfB = await (async () => {
    await using a = await startTestAgent(folder, 'edge-a', server.port, { interfaces: lan })
    await using b = await startTestAgent(folder, 'edge-b', server.port, { interfaces: lan })
    b.serve('10.1.1.1', target.port)
    await eventually('direct both ways', () => pathTo(a, 'edge-b') === 'lan' && pathTo(b, 'edge-a') === 'lan')
    assert.equal((await readAll(await dial(a, 'edge-b', target.port))).toString(), 'hello')
    return Number(/\/tcp\/(\d+)/.exec(b.tunnel.status().listen[0] ?? '')?.[1])
  })()
  await server[Symbol.asyncDispose]()
  await using a = await startTestAgent(folder, 'edge-a', server.port, { interfaces: lan })
  await using b = await startTestAgent(folder, 'edge-b', server.port, {
    interfaces: lan,
    config: { listenPort: portOfB },
  })
  b.serve('10.1.1.1', target.port)
  assert.equal((await readAll(await dial(a, 'edge-b', target.port))).toString(), 'hello')
  assert.equal(pathTo(a, 'edge-b'), 'lan')
})

test('flows that wait for the first connection to a peer all open when it stands', async () => {
  await using folder = await TestFolder.create()
  await using server = await startTestServer(folder)
  await using a = await startTestAgent(folder, 'edge-a', server.port)
  await using b = await startTestAgent(folder, 'edge-b', server.port)
  await using target = await greeting()
  for (const agent of [a, b]) agent.serve('10.1.1.1', target.port)
  await eventually('both are connected', () => isServerReady(a) && isServerReady(b))
  await eventually('both are known', () => knows(a, 'edge-b') && knows(b, 'edge-a'))
  const flow = async (from: TestAgent, to: string) => (await readAll(await dial(from, to, target.port))).toString()
  const answers = await Promise.all(Array.from({ length: 50 }, () => [flow(a, 'edge-b'), flow(b, 'edge-a')]).flat())
  assert.deepEqual(new Set(answers), new Set(['hello']))
})

test('flows go on through the relay when a direct connection dies, and a new one is made in time', async () => {
  await using folder = await TestFolder.create()
  await using server = await startTestServer(folder)
  await using a = await startTestAgent(folder, 'edge-a', server.port, { interfaces: lan })
  await using target = await greeting()
  {
    await using b = await startTestAgent(folder, 'edge-b', server.port, { interfaces: lan })
    await eventually('direct', () => pathTo(a, 'edge-b') === 'lan')
    assert.ok(knows(b, 'edge-a'))
  }
  await eventually('the loss is noticed', () => pathTo(a, 'edge-b') === 'none')
  // Comes back without an address in a shared subnet: only the relay is left.
  await using b = await startTestAgent(folder, 'edge-b', server.port)
  b.serve('10.1.1.1', target.port)
  await eventually('b is back', () => isServerReady(b))
  assert.equal((await readAll(await dial(a, 'edge-b', target.port))).toString(), 'hello')
  assert.equal(pathTo(a, 'edge-b'), 'relayed')
})

test('another pre-shared key keeps a node out, and both logs name it', async () => {
  await using folder = await TestFolder.create()
  await using server = await startTestServer(folder, { psk: 'one' })
  await using stranger = await startTestAgent(folder, 'edge-x', server.port, { psk: 'other' })
  const isTold = ({ message }: { message: string }) => message.includes('pre-shared key mismatch likely')
  await eventually('the agent says so', () => stranger.log.some(isTold), 12_000)
  await eventually('the server says so', () => server.log.some(isTold), 12_000)
  const line = server.log.find(isTold)
  assert.match(line?.fields.address ?? '', /127\.0\.0\.1/)
  assert.equal(stranger.tunnel.status().servers[0]?.connected, false)
  assert.deepEqual(server.tunnel.status().records, [])
})

test('a server that has another identity than at first contact is refused until it is unpinned', async () => {
  await using folder = await TestFolder.create()
  const first = await startTestServer(folder)
  await using agent = await startTestAgent(folder, 'edge-a', first.port)
  await eventually('connected', () => isServerReady(agent))
  await first[Symbol.asyncDispose]()
  await using second = await startTestServer(folder, { name: 'other-server', port: first.port })
  await eventually('refused', () => agent.log.some(({ message }) => message.startsWith('server refused')))
  const line = agent.log.find(({ message }) => message.startsWith('server refused'))
  assert.match(line?.fields.remedy ?? '', new RegExp(`edgemesh unpin 127.0.0.1:${first.port}`))
  assert.equal(isServerReady(agent), false)
  assert.equal(agent.tunnel.unpin(`127.0.0.1:${first.port}`), true)
  assert.notEqual(second.tunnel.status().peerId, '')
})

test('a tunnel whose server cannot be reached starts at once', async () => {
  await using folder = await TestFolder.create()
  const start = performance.now()
  await using agent = await startTestAgent(folder, 'edge-a', 1)
  assert.ok(performance.now() - start < 2000)
  assert.equal(isServerReady(agent), false)
})

test('a mesh whose muxers are mplex carries flows, and one with yamux alone does not join it', async () => {
  await using folder = await TestFolder.create()
  const config = { muxers: ['mplex'] } satisfies { muxers: TunnelConfig['muxers'] }
  await using server = await startTestServer(folder, config)
  await using a = await startTestAgent(folder, 'edge-a', server.port, { config })
  await using b = await startTestAgent(folder, 'edge-b', server.port, { config })
  await using outsider = await startTestAgent(folder, 'edge-c', server.port)
  await using target = await greeting()
  b.serve('10.1.1.1', target.port)
  await eventually('both are connected', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'))
  // The library would end a connection on which more than five streams begin within a second.
  const answers = Array.from({ length: 20 }, async () => readAll(await dial(a, 'edge-b', target.port)))
  for (const answer of answers) assert.equal((await answer).toString(), 'hello')
  await eventually('the other has tried', () => outsider.tunnel.status().servers[0]?.lastError !== undefined)
  assert.equal(isServerReady(outsider), false)
})
