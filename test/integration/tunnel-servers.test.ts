/**
 * Servers that come and go while agents run; agents reach each other only through a relay:
 *
 *     edge-a ──┬── one ──┬── edge-b ── TCP target
 *              └── two ──┘
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, beforeEach, test } from 'node:test'
import {
  dial,
  eventually,
  isServerReady,
  knows,
  startTcpServer,
  startTestAgent,
  startTestServer,
  type TestAgent,
  TestFolder,
  type TestServer,
} from './tunnel-mesh.ts'

/** These servers, and no agent that relays. */
const only = (servers: string[]) => ({ servers, relayNodes: [] })

const running = new AsyncDisposableStack()
let one: TestServer
let two: TestServer
let a: TestAgent
let b: TestAgent

before(async () => {
  const folder = running.use(await TestFolder.create())
  one = running.use(await startTestServer(folder, { name: 'one' }))
  two = running.use(await startTestServer(folder, { name: 'two' }))
  a = running.use(await startTestAgent(folder, 'edge-a', one.port))
  b = running.use(await startTestAgent(folder, 'edge-b', one.port))
})
after(() => running.disposeAsync())

beforeEach(async () => {
  await a.tunnel.reload(only([addressOf(one)]))
  await b.tunnel.reload(only([addressOf(one)]))
  await eventually('both agents are at the first server', () => {
    return isServerReady(a) && isServerReady(b) && knows(a, 'edge-b') && connectedTo(one).length === 2
  })
})

const addressOf = (server: TestServer): string => `127.0.0.1:${server.port}`

function connectedTo({ tunnel }: TestServer): string[] {
  const connected = tunnel.status().records.filter((record) => record.connected)
  return connected.map(({ name }) => name)
}

/** Lines of the agent's log about links to servers. */
function countOf({ log }: TestAgent, message: string): number {
  return log.filter((line) => line.message === message).length
}

test('an added server is connected and reserved at, and the one that stays keeps its connection', async () => {
  const before = countOf(a, 'server connected')
  await a.tunnel.reload(only([addressOf(two), addressOf(one)]))
  await eventually('the second server stands, too', () => isServerReady(a))
  assert.deepEqual(
    a.tunnel.status().servers.map(({ address }) => address),
    [addressOf(two), addressOf(one)],
  )
  assert.equal(countOf(a, 'server connected'), before + 1)
  await eventually('the second server knows it', () => connectedTo(two).join() === 'edge-a')
  assert.equal(two.tunnel.status().reservations, 1)
})

test('metrics show the servers of now, and the flows that are open', async () => {
  await using target = await startTcpServer((socket) => void socket.pipe(socket))
  b.serve('10.1.1.1', target.port)
  const shown = async (agent: TestAgent) => {
    return (await agent.metrics.render()).match(/^edgemesh_tunnel_(server_connected|open_flows)\{.*$/gm) ?? []
  }
  const down = 'localhost:1'
  await a.tunnel.reload(only([addressOf(one), down]))
  const stream = await dial(a, 'edge-b', target.port)
  assert.deepEqual(await shown(a), [
    `edgemesh_tunnel_server_connected{server="${addressOf(one)}"} 1`,
    `edgemesh_tunnel_server_connected{server="${down}"} 0`,
    'edgemesh_tunnel_open_flows{direction="in"} 0',
    'edgemesh_tunnel_open_flows{direction="out"} 1',
  ])
  assert.deepEqual((await shown(b)).slice(1), [
    'edgemesh_tunnel_open_flows{direction="in"} 1',
    'edgemesh_tunnel_open_flows{direction="out"} 0',
  ])
  stream.destroy()
})

test('a removed server is disconnected and keeps no reservation', async () => {
  await a.tunnel.reload(only([]))
  assert.deepEqual(a.tunnel.status().servers, [])
  await eventually('the server has seen it go', () => one.tunnel.status().reservations === 1)
  await eventually('and says so', () => !connectedTo(one).includes('edge-a'))
  await assert.rejects(dial(a, 'edge-b', 80), { failure: 'no-path', message: /no server is configured/ })
})

test('a flow through one server lives on while others come and go', async () => {
  await using target = await startTcpServer((socket) => void socket.pipe(socket))
  b.serve('10.1.1.1', target.port)
  const stream = await dial(a, 'edge-b', target.port)
  const echoed = async (text: string) => {
    stream.write(text)
    assert.equal(String((await once(stream, 'data'))[0]), text)
  }
  await echoed('before')
  await a.tunnel.reload(only([addressOf(one), addressOf(two)]))
  await eventually('the second server stands', () => isServerReady(a))
  await echoed('with two')
  await a.tunnel.reload(only([addressOf(one)]))
  await echoed('with one again')
  stream.destroy()
})

test('a mesh that moves to another server is whole again', async () => {
  await using target = await startTcpServer((socket) => void socket.end('hello'))
  b.serve('10.1.1.1', target.port)
  await Promise.all([a, b].map((agent) => agent.tunnel.reload(only([addressOf(two)]))))
  await eventually('both agents are at the second server', () => connectedTo(two).length === 2)
  const stream = await dial(a, 'edge-b', target.port)
  assert.equal(String((await once(stream, 'data'))[0]), 'hello')
  stream.destroy()
})

test('a server that is named in another way is met at once, not only when a retry is due', async () => {
  const { peerId } = one.tunnel.status()
  const failures = countOf(a, 'server not connected')
  await a.tunnel.reload(only([`${addressOf(one)}/p2p/${peerId}`]))
  assert.ok((await eventually('it stands again', () => isServerReady(a))) < 2_000)
  assert.equal(countOf(a, 'server not connected'), failures)
})

test('the second name of a server stands in when the first is removed', async () => {
  const alias = `localhost:${one.port}`
  await a.tunnel.reload(only([addressOf(one), alias]))
  await eventually('the second name is known to be one', () => {
    return a.tunnel.status().servers[1]?.lastError === `the same server as ${addressOf(one)}`
  })
  await a.tunnel.reload(only([alias]))
  assert.ok((await eventually('it stands', () => isServerReady(a))) < 2_000)
})

test('an entry that is no address rejects and changes nothing', async () => {
  await assert.rejects(a.tunnel.reload(only([addressOf(two), 'no address'])), { code: 'EDGEMESH_SERVER_ADDRESS' })
  assert.deepEqual(
    a.tunnel.status().servers.map(({ address, connected }) => [address, connected]),
    [[addressOf(one), true]],
  )
})

test('where an entry is no address the membership stays as well', async () => {
  const revoking = { ...only(['no address']), trust: 'psk' as const, peers: {}, revoked: ['edge-b'] }
  await assert.rejects(a.tunnel.reload(revoking), { code: 'EDGEMESH_SERVER_ADDRESS' })
  await using target = await startTcpServer((socket) => void socket.end('hello'))
  b.serve('10.1.1.1', target.port)
  const stream = await dial(a, 'edge-b', target.port)
  assert.equal(String((await once(stream, 'data'))[0]), 'hello')
  stream.destroy()
})

test('changes that come at once end in the last one', async () => {
  await Promise.all([
    a.tunnel.reload(only([addressOf(two)])),
    a.tunnel.reload(only([])),
    a.tunnel.reload(only([addressOf(one), addressOf(two)])),
  ])
  await eventually('both stand', () => a.tunnel.status().servers.length === 2 && isServerReady(a))
})
