/** Links between agents: which paths they take, what they carry, and how they end. Flows themselves: `tunnel.test.ts`. */
import assert from 'node:assert/strict'
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { NamedAddress } from '../../src/linux/index.ts'
import type { ByteStream } from '../../src/net/index.ts'
import { type TunnelConfig, tunnelSchemaOf } from '../../src/tunnel/config.ts'
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
const megabyte = 1024 * 1024

interface Mesh extends AsyncDisposable {
  readonly folder: TestFolder
  readonly server: Awaited<ReturnType<typeof startTestServer>>
  readonly a: TestAgent
  readonly b: TestAgent
}

async function startMesh(interfaces: readonly NamedAddress[], config: Partial<TunnelConfig> = {}): Promise<Mesh> {
  const stack = new AsyncDisposableStack()
  const folder = stack.use(await TestFolder.create())
  const server = stack.use(await startTestServer(folder))
  const a = stack.use(await startTestAgent(folder, 'edge-a', server.port, { interfaces, config }))
  const b = stack.use(await startTestAgent(folder, 'edge-b', server.port, { interfaces, config }))
  await eventually('both are connected', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'))
  if (interfaces.length > 0) await eventually('direct', () => pathTo(a, 'edge-b') === 'lan')
  return { folder, server, a, b, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

/** Links of an agent by kind and path, as its metrics show them. */
async function linksOf(agent: TestAgent): Promise<Record<string, number>> {
  const lines = (await agent.metrics.render()).matchAll(/^edgemesh_tunnel_links\{kind="(\w+)",path="(\w+)"\} (\d+)/gm)
  return Object.fromEntries([...lines].map(([, kind, path, count]) => [`${kind} ${path}`, Number(count)]))
}

async function untilLinks(agent: TestAgent, key: string, count = 1): Promise<void> {
  const deadline = performance.now() + 10_000
  while (((await linksOf(agent))[key] ?? 0) < count) {
    assert.ok(performance.now() < deadline, `no ${count} ${key} links: ${JSON.stringify(await linksOf(agent))}`)
    await delay(20)
  }
}

async function helloOver(from: TestAgent, port: number): Promise<void> {
  assert.equal((await readAll(await dial(from, 'edge-b', port))).toString(), 'hello')
}

const greeting = () => startTcpServer((socket) => void socket.end('hello'))
const sink = () => startTcpServer((socket) => void socket.resume())

for (const [name, interfaces, path] of [
  ['neighbours', lan, 'lan'],
  ['nodes that only a relay can join', [], 'relayed'],
] as const) {
  test(`${name} get links by themselves once flows ask for them, and the flows use them`, async () => {
    await using mesh = await startMesh(interfaces)
    await using target = await greeting()
    mesh.b.serve('10.1.1.1', target.port)
    assert.deepEqual(await linksOf(mesh.a), {})
    await helloOver(mesh.a, target.port)
    await untilLinks(mesh.a, `shared ${path}`, 1)
    await helloOver(mesh.a, target.port)
    await untilLinks(mesh.a, `shared ${path}`, 2)
    for (let count = 0; count < 20; count++) await helloOver(mesh.a, target.port)
    const connections = Object.values(await linksOf(mesh.a)).reduce((sum, count) => sum + count, 0)
    assert.ok(connections <= 4, `${connections} links for a few short flows`)
    assert.deepEqual(await linksOf(mesh.b), await linksOf(mesh.a))
  })
}

test('the end that cannot dial asks the other one for links', async () => {
  await using mesh = await startMesh(lan)
  await using target = await greeting()
  for (const [from, to] of [
    [mesh.a, mesh.b],
    [mesh.b, mesh.a],
  ] as const) {
    to.serve('10.1.1.1', target.port)
    assert.equal((await readAll(await dial(from, to.name, target.port))).toString(), 'hello')
    await untilLinks(from, 'shared lan', 1)
  }
})

for (const [interfaces, path] of [
  [lan, 'lan'],
  [[], 'relayed'],
] as const) {
  test(`long flows move to ${path} bulk links in the middle of the stream, and not a byte is lost or out of order`, async () => {
    await using mesh = await startMesh(interfaces)
    const total = 24 * megabyte
    await using echo = await startTcpServer((socket) => void socket.pipe(socket))
    await using target = await greeting()
    mesh.b.serve('10.1.1.1', echo.port)
    mesh.b.serve('10.1.1.1', target.port)
    await helloOver(mesh.a, target.port)
    await untilLinks(mesh.a, `shared ${path}`, 1)
    const flows = await Promise.all([1, 2, 3].map(() => dial(mesh.a, 'edge-b', echo.port)))
    await Promise.all(flows.map((flow, index) => assertIntact(flow, total, index > 0)))
    const { [`bulk ${path}`]: bulk = 0 } = await linksOf(mesh.a)
    assert.ok(bulk >= 1 && bulk <= 8, `${bulk} bulk links`)
  })
}

/** Writes pieces of random size, reads at its own pace, and compares what comes back. */
async function assertIntact(flow: ByteStream, total: number, isSlow: boolean): Promise<void> {
  const sent = createHash('sha256')
  const received = createHash('sha256')
  const reading = (async () => {
    let bytes = 0
    for await (const chunk of flow) {
      received.update(chunk)
      bytes += chunk.length
      if (isSlow && randomInt(40) === 0) await delay(3)
    }
    return bytes
  })()
  const source = randomBytes(2 * megabyte)
  for (let left = total; left > 0; ) {
    const start = randomInt(megabyte)
    const piece = source.subarray(start, start + Math.min(left, 1 + randomInt(200_000)))
    left -= piece.length
    sent.update(piece)
    if (!flow.write(piece)) await once(flow, 'drain')
  }
  flow.end()
  assert.equal(await reading, total)
  assert.equal(received.digest('hex'), sent.digest('hex'))
}

test('a flow that nobody reads does not hold up its neighbours on the same link', async () => {
  await using mesh = await startMesh(lan)
  await using stalled = await startTcpServer((socket) => void socket.pause())
  await using echo = await startTcpServer((socket) => void socket.pipe(socket))
  await using target = await greeting()
  for (const { port } of [stalled, echo, target]) mesh.b.serve('10.1.1.1', port)
  await helloOver(mesh.a, target.port)
  await untilLinks(mesh.a, 'shared lan', 1)
  const stuck = await Promise.all(Array.from({ length: 8 }, () => dial(mesh.a, 'edge-b', stalled.port)))
  for (const flow of stuck) flow.write(Buffer.alloc(8 * megabyte))
  await delay(300)
  const flow = await dial(mesh.a, 'edge-b', echo.port)
  for (let round = 0; round < 50; round++) {
    flow.write(`round ${round}`)
    const [answer] = await once(flow, 'data')
    assert.equal(String(answer), `round ${round}`)
  }
  assert.ok(stuck.every((one) => one.writableLength > 0))
})

test('flows on a link that is lost end with the reason where they do not wait, and new ones work at once', async () => {
  await using mesh = await startMesh([], { resumeSeconds: 0 })
  await using target = await greeting()
  await using open = await sink()
  for (const { port } of [target, open]) mesh.b.serve('10.1.1.1', port)
  await helloOver(mesh.a, target.port)
  await untilLinks(mesh.a, 'shared relayed', 1)
  const flow = await dial(mesh.a, 'edge-b', open.port)
  await mesh.server[Symbol.asyncDispose]()
  await assert.rejects(finished(flow.resume()), { name: 'PathLostError', code: 'ECONNRESET' })
  await using _second = await startTestServer(mesh.folder, { port: mesh.server.port })
  await eventually('both are back', () => isServerReady(mesh.a) && isServerReady(mesh.b))
  await helloOver(mesh.a, target.port)
  await untilLinks(mesh.a, 'shared relayed', 1)
  await helloOver(mesh.a, target.port)
})

test('a flow outlives the server that relays it, and nothing of it is lost', async () => {
  await using mesh = await startMesh([])
  await using echo = await startTcpServer((socket) => void socket.pipe(socket))
  await using target = await greeting()
  for (const { port } of [target, echo]) mesh.b.serve('10.1.1.1', port)
  await helloOver(mesh.a, target.port)
  await untilLinks(mesh.a, 'shared relayed', 1)
  const flow = await dial(mesh.a, 'edge-b', echo.port)
  const carrying = assertIntact(flow, 24 * megabyte, true)
  await once(flow, 'data')
  await mesh.server[Symbol.asyncDispose]()
  await using _second = await startTestServer(mesh.folder, { port: mesh.server.port })
  await carrying
  assert.match(await mesh.a.metrics.render(), /tunnel_resumed_flows_total [1-9]/)
})

test('the server accounts what it relays to the pair, and sees nothing of it', async () => {
  await using mesh = await startMesh([])
  await using echo = await startTcpServer((socket) => void socket.pipe(socket))
  await using target = await greeting()
  for (const { port } of [echo, target]) mesh.b.serve('10.1.1.1', port)
  await helloOver(mesh.a, target.port)
  await untilLinks(mesh.a, 'shared relayed', 1)
  await assertIntact(await dial(mesh.a, 'edge-b', echo.port), megabyte, false)
  const [pair, ...others] = mesh.server.tunnel.status().relayed
  assert.deepEqual(others, [])
  assert.deepEqual([...(pair?.nodes ?? [])].sort(), ['edge-a', 'edge-b'])
  assert.ok((pair?.bytes ?? 0) > 2 * megabyte, `${pair?.bytes} bytes`)
  assert.ok((pair?.open ?? 0) >= 1)
})

test('a peer that restarts is met again, and nothing of its old flows is mixed up with the new', async () => {
  await using mesh = await startMesh(lan)
  await using target = await greeting()
  await using open = await sink()
  mesh.b.serve('10.1.1.1', target.port)
  mesh.b.serve('10.1.1.1', open.port)
  await helloOver(mesh.a, target.port)
  await untilLinks(mesh.a, 'shared lan', 1)
  const flow = await dial(mesh.a, 'edge-b', open.port)
  const lost = assert.rejects(finished(flow.resume()), { code: 'ECONNRESET' })
  await mesh.b[Symbol.asyncDispose]()
  await lost
  const { folder, server } = mesh
  await using b = await startTestAgent(folder, 'edge-b', server.port, { interfaces: lan, stateDir: mesh.b.stateDir })
  b.serve('10.1.1.1', target.port)
  await eventually('it is back', () => isServerReady(b) && pathTo(mesh.a, 'edge-b') === 'lan', 15_000)
  await helloOver(mesh.a, target.port)
  await untilLinks(mesh.a, 'shared lan', 1)
})

for (const links of [true, false]) {
  test(`datagrams keep their borders and find their way back, ${links ? 'on links' : 'on streams'}`, async () => {
    await using folder = await TestFolder.create()
    await using server = await startTestServer(folder)
    await using a = await startTestAgent(folder, 'edge-a', server.port, { config: { links } })
    await using b = await startTestAgent(folder, 'edge-b', server.port, { config: { links } })
    await eventually('both are connected', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'))
    await using echo = await startUdpEcho()
    const { port } = echo
    b.serve('10.1.1.1', port, 'udp')
    const target = { protocol: 'udp', nodeName: 'edge-b', address: '10.1.1.1', port } as const
    for (const round of [1, 2]) {
      using channel = await a.tunnel.dialer.dialDatagrams(target, AbortSignal.timeout(10_000))
      const answers: Buffer[] = []
      channel.onMessage((message) => void answers.push(message))
      const sent = [Buffer.from(`round ${round}`), Buffer.alloc(0), randomBytes(9000), randomBytes(65_000)]
      for (const [index, message] of sent.entries()) {
        channel.send(message)
        await eventually(`answer ${index}`, () => answers.length === index + 1)
      }
      assert.deepEqual(answers, sent)
      if (links) await untilLinks(a, 'shared relayed', 1)
      if (links && round === 2) await untilLinks(a, 'datagram relayed', 1)
    }
    await eventually('both sides forget them', () => openFlowsOf(a) === 0 && openFlowsOf(b) === 0)
    await assert.rejects(a.tunnel.dialer.dialDatagrams({ ...target, port: 1 }, AbortSignal.timeout(10_000)), {
      failure: 'unknown-target',
    })
  })
}

for (const links of [true, false]) {
  test(`at a limit of either side quiet datagrams give way to new flows, ${links ? 'on links' : 'on streams'}`, async () => {
    await using folder = await TestFolder.create()
    await using server = await startTestServer(folder)
    const limitedTo = (tunnelPeerBaseStreamOut: number, tunnelPeerBaseStreamIn: number): Partial<TunnelConfig> => {
      const limits = { tunnelPeerBaseStreamOut, tunnelPeerBaseStreamIn }
      return { links, tunnelLimitConfig: tunnelSchemaOf(0).parse({ tunnelLimitConfig: limits }).tunnelLimitConfig }
    }
    await using a = await startTestAgent(folder, 'edge-a', server.port, { config: limitedTo(8, 8) })
    await using b = await startTestAgent(folder, 'edge-b', server.port, { config: limitedTo(8, 6) })
    await eventually('both are connected', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'))
    await using echo = await startUdpEcho()
    await using greeter = await greeting()
    b.serve('10.1.1.1', echo.port, 'udp')
    b.serve('10.1.1.1', greeter.port)
    const target = { protocol: 'udp', nodeName: 'edge-b', address: '10.1.1.1', port: echo.port } as const
    await using open = new AsyncDisposableStack()
    for (let question = 0; question < 24; question++) {
      const channel = open.use(await a.tunnel.dialer.dialDatagrams(target, AbortSignal.timeout(10_000)))
      const answer = new Promise<string>((resolve) => channel.onMessage((message) => resolve(message.toString())))
      channel.send(Buffer.from(`question ${question}`))
      assert.equal(await answer, `question ${question}`)
    }
    await helloOver(a, greeter.port)
    const evicted = [await evictedBy(a, 'out'), await evictedBy(b, 'in')] as const
    assert.ok(evicted[0] + evicted[1] >= 24 - 8, `${evicted}`)
    assert.ok(evicted[1] > 0, `${evicted}`)
  })
}

async function startUdpEcho(): Promise<AsyncDisposable & { port: number }> {
  const echo = createSocket('udp4')
  echo.on('message', (message, from) => echo.send(message, from.port, '127.0.0.1'))
  echo.bind(0, '127.0.0.1')
  await once(echo, 'listening')
  return { port: echo.address().port, [Symbol.asyncDispose]: async () => void echo.close() }
}

async function evictedBy(agent: TestAgent, direction: 'in' | 'out'): Promise<number> {
  const line = new RegExp(`^edgemesh_tunnel_evicted_flows_total\\{direction="${direction}"\\} (\\d+)`, 'm')
  return Number(line.exec(await agent.metrics.render())?.[1] ?? 0)
}

function openFlowsOf(agent: TestAgent): number {
  return agent.tunnel.status().peers.reduce((sum, { openFlows }) => sum + openFlows, 0)
}

test('ping and status tell the path, the round trip and the bytes of a peer', async () => {
  await using mesh = await startMesh(lan)
  await using target = await greeting()
  mesh.b.serve('10.1.1.1', target.port)
  const first = await mesh.a.tunnel.ping('edge-b', AbortSignal.timeout(10_000))
  assert.deepEqual([first.path, first.roundTripMs > 0], ['lan', true])
  await untilLinks(mesh.a, 'shared lan', 1)
  const second = await mesh.a.tunnel.ping('edge-b', AbortSignal.timeout(10_000))
  assert.deepEqual([second.path, second.carrier], ['lan', 'link'])
  await helloOver(mesh.a, target.port)
  const peer = mesh.a.tunnel.status().peers.find(({ name }) => name === 'edge-b')
  assert.ok(peer?.links && peer.links.count >= 1)
  assert.ok((peer.links.roundTripMs ?? 0) > 0)
  assert.ok(peer.links.bytesSent > 0 && peer.links.bytesReceived > 0)
  assert.equal(peer.failedAttempts, 0)
  await assert.rejects(mesh.a.tunnel.ping('edge-nowhere', AbortSignal.timeout(10_000)), { failure: 'no-path' })
})
