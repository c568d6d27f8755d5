/** Paths by the switches of `edgeTunnel.paths`. Between agents on one machine lies no NAT, but none knows the other's address. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
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
  type TestServer,
} from './tunnel-mesh.ts'

const lan: readonly NamedAddress[] = [{ interface: 'lan0', address: '127.0.0.1', prefixLength: 8 }]

/** A server, and two agents that are connected to it; the second one has a target that says hello. */
interface Mesh {
  readonly server: TestServer
  readonly a: TestAgent
  readonly b: TestAgent
  hello(): Promise<string>
}

async function withMesh(
  switches: Partial<TunnelConfig['paths']>,
  interfaces: readonly NamedAddress[],
  use: (mesh: Mesh) => Promise<void>,
): Promise<void> {
  const paths = { directOnly: false, relayOnly: false, noPunch: false, noPortMapping: false }
  await using folder = await TestFolder.create()
  await using server = await startTestServer(folder)
  const config = { paths: { ...paths, ...switches } }
  await using a = await startTestAgent(folder, 'edge-a', server.port, { interfaces, config })
  await using b = await startTestAgent(folder, 'edge-b', server.port, { interfaces, config: { paths } })
  await using target = await startTcpServer((socket) => void socket.end('hello'))
  b.serve('10.1.1.1', target.port)
  await eventually('both are connected', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'))
  await use({ server, a, b, hello: async () => (await readAll(await dial(a, 'edge-b', target.port))).toString() })
}

const relayedBytes = ({ tunnel }: TestServer) => tunnel.status().relayed.reduce((sum, { bytes }) => sum + bytes, 0)

test('the first flow is relayed, and soon there is a punched path that both ends show', async () => {
  await withMesh({}, [], async ({ a, b, hello }) => {
    assert.equal(await hello(), 'hello')
    await eventually('a hole is punched', () => pathTo(a, 'edge-b') === 'punched', 20_000)
    await eventually('the other end knows', () => pathTo(b, 'edge-a') === 'punched')
    assert.equal(await hello(), 'hello')
    assert.match(await a.metrics.render(), /tunnel_links\{kind="shared",path="punched"\} 1/)
  })
})

test('datagrams that began relayed go on directly once a hole is punched, both ways, and also when the relay is gone', async () => {
  await withMesh({}, [], async ({ server, a, b }) => {
    await using echo = await startDatagramEcho()
    b.serve('10.1.1.1', echo.port, 'udp')
    const target = { protocol: 'udp', nodeName: 'edge-b', address: '10.1.1.1', port: echo.port } as const
    using channel = await a.tunnel.dialer.dialDatagrams(target, AbortSignal.timeout(10_000))
    let answers = 0
    channel.onMessage(() => {
      answers += 1
    })
    const exchange = async (count: number) => {
      for (const wanted = answers + count; answers < wanted; ) {
        const before = answers
        channel.send(randomBytes(1000))
        await eventually('it is answered', () => answers > before)
      }
    }
    assert.equal(pathTo(a, 'edge-b'), 'relayed')
    await exchange(1)
    await eventually('a hole is punched', () => pathTo(a, 'edge-b') === 'punched', 20_000)
    await eventually('the other end knows', () => pathTo(b, 'edge-a') === 'punched')
    const before = relayedBytes(server)
    await exchange(50)
    const more = relayedBytes(server) - before
    assert.ok(more < 25_000, `${more} bytes of 100 kB are still relayed`)
    assert.equal(echo.clients(), 1, 'it is one flow for those who answer')
    await server[Symbol.asyncDispose]()
    await exchange(50)
    assert.equal(echo.clients(), 1)
  })
})

/** Answers datagrams with themselves, and counts who has sent any. */
async function startDatagramEcho() {
  const socket = createSocket('udp4')
  const clients = new Set<number>()
  socket.on('message', (message, from) => {
    clients.add(from.port)
    socket.send(message, from.port, '127.0.0.1')
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return {
    port: socket.address().port,
    clients: () => clients.size,
    [Symbol.asyncDispose]: async () => void socket.close(),
  }
}

test('directOnly: flows wait for a hole, and only its making is relayed', async () => {
  await using target = await startTcpServer((socket) => void socket.end(Buffer.alloc(200_000)))
  await withMesh({ directOnly: true }, [], async ({ server, a, b }) => {
    b.serve('10.1.1.1', target.port)
    assert.equal((await readAll(await dial(a, 'edge-b', target.port))).length, 200_000)
    assert.equal(pathTo(a, 'edge-b'), 'punched')
    assert.ok(relayedBytes(server) < 20_000, `${relayedBytes(server)} bytes`)
  })
})

test('directOnly without holes: flows beyond the LAN fail and say so', async () => {
  await withMesh({ directOnly: true, noPunch: true }, [], async ({ hello }) => {
    await assert.rejects(hello(), { failure: 'no-path', message: /Cannot reach edge-b: .*directOnly/ })
  })
})

test('relayOnly: neighbours are not connected to, and do not connect to us', async () => {
  await withMesh({ relayOnly: true }, lan, async ({ a, b, hello }) => {
    assert.equal(await hello(), 'hello')
    assert.equal(pathTo(a, 'edge-b'), 'relayed')
    assert.equal(pathTo(b, 'edge-a'), 'relayed')
  })
})

test('noPunch: the peer says that this side takes no part', async () => {
  await withMesh({ noPunch: true }, [], async ({ a, b, hello }) => {
    assert.equal(await hello(), 'hello')
    const reason = () => b.tunnel.status().peers.find(({ name }) => name === 'edge-a')?.lastError ?? ''
    await using target = await startTcpServer((socket) => void socket.end('hello'))
    a.serve('10.1.1.1', target.port)
    assert.equal((await readAll(await dial(b, 'edge-a', target.port))).toString(), 'hello')
    await eventually('the reason is told', () => reason().includes('the other side takes no part'))
    assert.equal(pathTo(a, 'edge-b'), 'relayed')
  })
})
