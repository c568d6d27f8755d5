/**
 * Who may be here, and under which name, as the configuration says it while all nodes run:
 *
 *     edge-a ---- server ---- edge-b ---- TCP target
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TunnelConfig } from '../../src/tunnel/config.ts'
import { deriveIdentity } from '../../src/tunnel/index.ts'
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
  type TestServer,
} from './tunnel-mesh.ts'

type Rules = Partial<Pick<TunnelConfig, 'trust' | 'peers' | 'revoked'>>

const loopback = [{ interface: 'eth0', address: '127.0.0.1', prefixLength: 8 }]
const open: Required<Rules> = { trust: 'psk', peers: {}, revoked: [] }

async function startMesh(running: AsyncDisposableStack, { interfaces = [] as typeof loopback } = {}) {
  const folder = running.use(await TestFolder.create())
  const server = running.use(await startTestServer(folder))
  const a = running.use(await startTestAgent(folder, 'edge-a', server.port, { interfaces }))
  const b = running.use(await startTestAgent(folder, 'edge-b', server.port, { interfaces }))
  const target = running.use(await startTcpServer((socket) => void socket.pipe(socket)))
  for (const agent of [a, b]) agent.serve('10.1.1.1', target.port)
  await eventually('all have met', () => [a, b].every(isServerReady) && knows(a, 'edge-b') && knows(b, 'edge-a'))
  const mesh = { servers: [`127.0.0.1:${server.port}`], relayNodes: [] }
  const psk = { enable: true, path: join(folder.path, 'psk-server'), previousPath: '' }
  return {
    folder,
    server,
    a,
    b,
    target,
    atServer: (rules: Rules) => server.tunnel.reload({ psk, ...open, ...rules }),
    atAgent: (agent: TestAgent, rules: Rules) => agent.tunnel.reload({ ...open, ...rules, ...mesh }),
    /** Who was refused tries again after 15 s by itself. */
    async rejoin({ tunnel }: TestAgent) {
      await tunnel.reload({ servers: [], relayNodes: [] })
      await tunnel.reload(mesh)
    },
  }
}

const peerIdOf = ({ tunnel }: TestAgent) => tunnel.status().peerId
const logged = ({ log }: TestAgent | TestServer, text: RegExp) =>
  log.some(({ message, fields }) => text.test(`${message} ${fields.reason ?? ''} ${fields.error ?? ''}`))

async function assertReaches(from: TestAgent, to: string, port: number): Promise<void> {
  const patientUntil = performance.now() + 20_000
  for (;;) {
    try {
      const stream = await dial(from, to, port)
      stream.end('hello')
      assert.equal((await readAll(stream)).toString(), 'hello')
      return
    } catch (error) {
      if (performance.now() > patientUntil) throw error
    }
  }
}

/** A flow that stands; tells why it has ended. */
async function openFlow(from: TestAgent, to: string, port: number): Promise<{ readonly ended: Promise<string> }> {
  const stream = await dial(from, to, port)
  stream.write('x')
  await once(stream, 'data')
  const { promise, resolve } = Promise.withResolvers<string>()
  let reason = ''
  stream.once('close', () => resolve(reason))
  stream.on('error', (error) => {
    reason = error.message
  })
  stream.resume()
  return { ended: promise }
}

test('a node that is revoked on the server loses its flows there, is told why, and returns when it may', async () => {
  await using running = new AsyncDisposableStack()
  const { server, a, b, target, atServer, rejoin } = await startMesh(running)
  await assertReaches(a, 'edge-b', target.port)
  await eventually('a link stands', () =>
    [a, b].every(({ tunnel }) => tunnel.status().peers.some(({ links }) => links !== undefined)),
  )
  const flow = await openFlow(a, 'edge-b', target.port)
  const back = await openFlow(b, 'edge-a', target.port)
  await atServer({ revoked: ['edge-b'] })
  assert.match(await flow.ended, /does not relay for edge-b: this relay has revoked it/)
  assert.match(await back.ended, /refuses this node: edge-b .* is revoked/)
  await eventually('the splices are cut', () => server.tunnel.status().relayed.every(({ open: count }) => count === 0))
  await eventually(
    'it is told',
    () => /edge-b .* is revoked/.test(b.tunnel.status().servers[0]?.lastError ?? ''),
    10_000,
  )
  assert.ok(logged(server, /name record refused edge-b/))
  assert.ok(!server.tunnel.status().records.some(({ name }) => name === 'edge-b'))
  await assert.rejects(dial(a, 'edge-b', target.port), { failure: 'no-path' })
  await atServer({})
  await rejoin(b)
  await eventually('it is back', () => isServerReady(b))
  await assertReaches(a, 'edge-b', target.port)
})

test('a node that is revoked on another one is cut off in both directions, also where no server is in between', async () => {
  await using running = new AsyncDisposableStack()
  const { a, b, target, atAgent } = await startMesh(running, { interfaces: loopback })
  await eventually('they are neighbours', () => pathTo(a, 'edge-b') === 'lan')
  await assertReaches(a, 'edge-b', target.port)
  const flow = await openFlow(a, 'edge-b', target.port)
  const back = await openFlow(b, 'edge-a', target.port)
  await atAgent(a, { revoked: [peerIdOf(b)] })
  await flow.ended
  assert.match(await back.ended, /lost|reset/)
  assert.deepEqual(a.tunnel.status().peers, [])
  await assert.rejects(dial(a, 'edge-b', target.port), { failure: 'no-path' })
  await assert.rejects(dial(b, 'edge-a', target.port))
  await eventually('a refusal is logged', () => logged(a, /revoked node refused/), 15_000)
  await atAgent(a, { revoked: ['edge-b'] })
  await assert.rejects(dial(a, 'edge-b', target.port), { failure: 'forbidden', message: /edge-b: it is revoked here/ })
  await atAgent(a, {})
  await assertReaches(a, 'edge-b', target.port)
  await assertReaches(b, 'edge-a', target.port)
})

test('an agent that relays cuts off those that it has revoked', async () => {
  await using running = new AsyncDisposableStack()
  const folder = running.use(await TestFolder.create())
  const relayNodes = [{ nodeName: 'edge-r', advertiseAddress: [] }]
  const relay = running.use(await startTestAgent(folder, 'edge-r', 1, { config: { relayNodes, servers: [] } }))
  const port = Number(/\/tcp\/(\d+)/.exec(relay.tunnel.status().listen[0] ?? '')?.[1])
  const a = running.use(await startTestAgent(folder, 'edge-a', port))
  const b = running.use(await startTestAgent(folder, 'edge-b', port))
  const target = running.use(await startTcpServer((socket) => void socket.pipe(socket)))
  b.serve('10.1.1.1', target.port)
  await eventually('all have met', () => [a, b].every(isServerReady) && knows(a, 'edge-b'))
  await assertReaches(a, 'edge-b', target.port)
  await eventually('a link stands', () => a.tunnel.status().peers.some(({ links }) => links !== undefined))
  const flow = await openFlow(a, 'edge-b', target.port)
  await relay.tunnel.reload({ ...open, revoked: ['edge-b'], servers: [], relayNodes })
  assert.match(await flow.ended, /does not relay for edge-b: this relay has revoked it/)
  await assert.rejects(dial(a, 'edge-b', target.port))
})

test('with trust pinned a server and a node take names they know, and others when the configuration names them', async () => {
  await using running = new AsyncDisposableStack()
  const { folder, server, a, b, target, atServer, atAgent, rejoin } = await startMesh(running, { interfaces: loopback })
  await atServer({ trust: 'pinned' })
  await atAgent(a, { trust: 'pinned' })
  await assertReaches(a, 'edge-b', target.port)
  const c = running.use(await startTestAgent(folder, 'edge-c', server.port, { interfaces: loopback }))
  const refusal = /the name edge-c is not known, and edgeTunnel.trust is pinned/
  await eventually('it is told', () => refusal.test(c.tunnel.status().servers[0]?.lastError ?? ''))
  assert.ok(!knows(b, 'edge-c'), 'the server hands out no record of it')
  await atServer({ trust: 'pinned', peers: { 'edge-c': peerIdOf(c) } })
  await rejoin(c)
  await eventually('it is let in', () => isServerReady(c))
  await eventually('and known to who takes every name', () => knows(b, 'edge-c'))
  assert.ok(!knows(a, 'edge-c'), 'who is more careful does not')
  await assert.rejects(dial(c, 'edge-a', target.port), {
    failure: 'forbidden',
    message: /knows no node with the identity/,
  })
  await atAgent(a, { trust: 'pinned', peers: { 'edge-c': peerIdOf(c) } })
  await assertReaches(c, 'edge-a', target.port)
})

test('the identity that the configuration gives a name wins against the one that came first', async () => {
  await using running = new AsyncDisposableStack()
  const { folder, server, a, b, target, atServer, atAgent, rejoin } = await startMesh(running)
  const again = { stateDir: join(folder.path, 'edge-b-anew') }
  const anew = running.use(await startTestAgent(folder, 'edge-b', server.port, again))
  anew.serve('10.1.1.1', target.port)
  await eventually('it is refused', () =>
    /edgemesh unpin edge-b/.test(anew.tunnel.status().servers[0]?.lastError ?? ''),
  )
  await b[Symbol.asyncDispose]()
  for (const apply of [atServer, (rules: Rules) => atAgent(a, rules)])
    await apply({ peers: { 'edge-b': peerIdOf(anew) } })
  await rejoin(anew)
  await eventually('it is let in', () => isServerReady(anew))
  await assertReaches(a, 'edge-b', target.port)
  assert.equal(a.tunnel.status().peers.find(({ name }) => name === 'edge-b')?.peerId, peerIdOf(anew))
})

test('a node that the shared configuration revokes, or gives another identity, says so and goes on', async () => {
  await using running = new AsyncDisposableStack()
  const { a, b, target, atAgent } = await startMesh(running)
  await atAgent(a, { revoked: ['edge-a'] })
  assert.ok(logged(a, /this node itself is revoked/))
  await atAgent(a, { peers: { 'edge-a': peerIdOf(b) } })
  assert.ok(logged(a, new RegExp(`others refuse this node .*${peerIdOf(b)}, but this is ${peerIdOf(a)}`)))
  await assertReaches(a, 'edge-b', target.port)
})

test('where identities follow from names, a name is enough to shut out a node that was never seen', async () => {
  await using folder = await TestFolder.create()
  const config = { identity: 'derived', servers: [], revoked: ['edge-b'] } as const
  await using a = await startTestAgent(folder, 'edge-a', 1, { config: { ...config, revoked: ['edge-b'], servers: [] } })
  const port = Number(/\/tcp\/(\d+)/.exec(a.tunnel.status().listen[0] ?? '')?.[1])
  const dials = { identity: 'derived', servers: [`127.0.0.1:${port}`] } as const
  const asServer = (name: string) =>
    startTestAgent(folder, name, port, { config: { ...dials, servers: [...dials.servers] } })
  await using b = await asServer('edge-b')
  await eventually('it is refused', () => logged(a, /revoked node refused/), 15_000)
  const { peerId } = await deriveIdentity('edge-b')
  assert.ok(a.log.some(({ message, fields }) => message === 'revoked node refused' && fields.peer === peerId))
  assert.equal(peerIdOf(b), peerId)
})
