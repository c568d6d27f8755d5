/**
 * An agent that relays for others, switched on and off while it runs:
 *
 *     edge-a ---- edge-r (agent: relay, directory) ---- edge-b ---- TCP target
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import {
  dial,
  eventually,
  isServerReady,
  knows,
  pathTo,
  readAll,
  startTcpServer,
  startTestAgent,
  type TestAgent,
  TestFolder,
} from './tunnel-mesh.ts'

const running = new AsyncDisposableStack()
/** What every agent's configuration says; tests meet on one host, so the port is named under servers. */
const relayNodes = [{ nodeName: 'edge-r', advertiseAddress: [] }]
let relay: TestAgent
let a: TestAgent
let b: TestAgent

before(async () => {
  const folder = running.use(await TestFolder.create())
  relay = running.use(await startTestAgent(folder, 'edge-r', 1, { config: { relayNodes, servers: [] } }))
  const port = Number(/\/tcp\/(\d+)/.exec(relay.tunnel.status().listen[0] ?? '')?.[1])
  a = running.use(await startTestAgent(folder, 'edge-a', port))
  b = running.use(await startTestAgent(folder, 'edge-b', port))
})
after(() => running.disposeAsync())

async function echoes(from: TestAgent, to: TestAgent): Promise<void> {
  await using target = await startTcpServer((socket) => void socket.pipe(socket))
  to.serve('10.1.1.1', target.port)
  const stream = await dial(from, to.name, target.port)
  stream.end('through')
  assert.equal(String(await readAll(stream)), 'through')
}

test('an agent that relayNodes names is relay and directory for others, and takes part itself', async () => {
  await eventually('both have the relay', () => isServerReady(a) && isServerReady(b))
  await eventually('all know each other', () => knows(a, 'edge-b') && knows(a, 'edge-r') && knows(relay, 'edge-b'))
  // An agent is counted once the relay knows its name.
  await eventually('both are counted', () => relay.tunnel.status().relay?.agents === 2)
  assert.deepEqual(relay.tunnel.status().relay, { agents: 2, reservations: 2 })
  await echoes(a, b)
  assert.equal(pathTo(a, 'edge-b'), 'relayed')
  await echoes(relay, b)
  await echoes(a, relay)
  assert.equal(pathTo(a, 'edge-r'), 'direct')
})

test('no longer named it takes nobody, and named again it does, without a restart', async () => {
  await relay.tunnel.reload({ servers: [], relayNodes: [] })
  assert.equal(relay.tunnel.status().relay, undefined)
  await eventually('nobody has a server', () => !isServerReady(a) && !isServerReady(b))
  await relay.tunnel.reload({ servers: [], relayNodes })
  await eventually('both have the relay again', () => isServerReady(a) && isServerReady(b))
  await echoes(b, a)
})

test('a relay without an address is named in the log of those who cannot find it', async () => {
  await a.tunnel.reload({ servers: a.tunnel.status().servers.map(({ address }) => address), relayNodes })
  const line = a.log.find(({ message }) => message === 'a relay cannot be found: it has no address')
  assert.equal(line?.fields.peer, 'edge-r')
  assert.equal(
    relay.log.some(({ message }) => message.includes('cannot be found')),
    false,
  )
})
