/** On what the first flows between two nodes travel: links wherever both ends speak them, however far the relay is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { NamedAddress } from '../../src/linux/index.ts'
import type { TunnelConfig } from '../../src/tunnel/config.ts'
import { startDelayedPort } from './delayed-port.ts'
import {
  dial,
  eventually,
  isServerReady,
  knows,
  readAll,
  startTcpServer,
  startTestAgent,
  startTestServer,
  type TestAgent,
  TestFolder,
} from './tunnel-mesh.ts'

const lan: readonly NamedAddress[] = [{ interface: 'lan0', address: '127.0.0.1', prefixLength: 8 }]

interface Mesh extends AsyncDisposable {
  readonly a: TestAgent
  readonly b: TestAgent
  /** Opens a flow that is answered. */
  hello(): Promise<void>
}

interface Setting {
  /** Round trip between each agent and the server. */
  readonly roundTripMs?: number
  readonly interfaces?: readonly NamedAddress[]
  readonly configOfB?: Partial<TunnelConfig>
}

async function startMesh({ roundTripMs = 0, interfaces = [], configOfB = {} }: Setting): Promise<Mesh> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await TestFolder.create())
  const server = starting.use(await startTestServer(folder))
  const line = starting.use(await startDelayedPort(server.port, roundTripMs / 2))
  const a = starting.use(await startTestAgent(folder, 'edge-a', line.port, { interfaces }))
  const b = starting.use(await startTestAgent(folder, 'edge-b', line.port, { interfaces, config: configOfB }))
  const target = starting.use(await startTcpServer((socket) => void socket.end('hello')))
  const isReady = () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b') && knows(b, 'edge-a')
  await eventually('both are connected', isReady, 20_000)
  b.serve('10.1.1.1', target.port)
  const running = starting.move()
  return {
    a,
    b,
    async hello() {
      assert.equal((await readAll(await dial(a, 'edge-b', target.port))).toString(), 'hello')
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

async function streamFlowsOf(agent: TestAgent): Promise<number> {
  const metrics = await agent.metrics.render()
  return Number(/^edgemesh_tunnel_stream_flows_total\{peers="edgemesh"\} (\d+)/m.exec(metrics)?.[1] ?? 0)
}

for (const roundTripMs of [2, 100, 300]) {
  test(`with a relay that is ${roundTripMs} ms away no flow begins on a stream, also while the first link is made`, async () => {
    await using mesh = await startMesh({ roundTripMs })
    const flows: Promise<void>[] = []
    for (let count = 0; count < 20; count++) {
      flows.push(mesh.hello())
      await delay(roundTripMs / 2)
    }
    await Promise.all(flows)
    assert.equal(await streamFlowsOf(mesh.a), 0)
  })
}

for (const [where, interfaces] of [
  ['in the LAN', lan],
  ['behind a relay', []],
] as const) {
  test(`a peer ${where} that speaks no links is reached over streams`, async () => {
    await using mesh = await startMesh({ interfaces, configOfB: { links: false } })
    for (let count = 0; count < 3; count++) await mesh.hello()
    assert.equal(await streamFlowsOf(mesh.a), 3)
    assert.equal(mesh.a.tunnel.status().peers[0]?.links, undefined)
  })
}
