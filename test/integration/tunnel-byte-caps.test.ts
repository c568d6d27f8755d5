/**
 * A relay that carries so many bytes for each node and day:
 *
 *     edge-a ---- server ---- edge-b, edge-c ---- TCP target
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import {
  dial,
  eventually,
  isServerReady,
  knows,
  startTcpServer,
  startTestAgent,
  startTestServer,
  TestFolder,
} from './tunnel-mesh.ts'

const capped = { connectionsPerNode: 256, bytesPerNodeAndDay: 2e6 }

for (const links of [true, false]) {
  test(`a node that has used its bytes, ${links ? 'on links' : 'on libp2p streams'}, is cut off, both ends learn why, and others go on`, async () => {
    await using running = new AsyncDisposableStack()
    const folder = running.use(await TestFolder.create())
    const server = running.use(await startTestServer(folder, { config: { relay: capped } }))
    const agentOf = async (name: string) =>
      running.use(await startTestAgent(folder, name, server.port, { config: { links } }))
    const [a, b, c, d] = [
      await agentOf('edge-a'),
      await agentOf('edge-b'),
      await agentOf('edge-c'),
      await agentOf('edge-d'),
    ]
    const target = running.use(await startTcpServer((socket) => void socket.resume().write('x')))
    for (const agent of [a, b, d]) agent.serve('10.1.1.1', target.port)
    await eventually(
      'all have met',
      () => isServerReady(b) && [a, c, d].every((agent) => isServerReady(agent) && knows(agent, 'edge-b')),
    )
    const first = await dial(a, 'edge-b', target.port)
    first.destroy()
    if (links) {
      await eventually('a link stands', () => a.tunnel.status().peers.some((peer) => peer.links !== undefined))
    }
    const flow = await dial(a, 'edge-b', target.port)
    let end = ''
    flow.on('error', (error) => {
      end = error.message
    })
    const closed = new Promise((resolve) => flow.once('close', resolve))
    flow.resume().write(Buffer.alloc(3e6))
    await closed
    const reason = (name: string) =>
      new RegExp(`does not relay for ${name}: it has used the 2 MB a day that this relay carries for a node`)
    if (links) assert.match(end, reason('edge-(a|b)'))
    await eventually('the pair is accounted for', () => {
      return server.tunnel
        .status()
        .relayed.some(({ bytes, nodes }) => bytes >= 2e6 && nodes.toSorted().join() === 'edge-a,edge-b')
    })
    await assert.rejects(dial(a, 'edge-b', target.port), { failure: 'no-path', message: reason('edge-(a|b)') })
    await assert.rejects(dial(b, 'edge-a', target.port), { failure: 'no-path', message: reason('edge-(a|b)') })
    await assert.rejects(dial(c, 'edge-b', target.port), { failure: 'no-path', message: reason('edge-b') })
    const other = await dial(c, 'edge-d', target.port)
    await once(other, 'data')
    const late = running.use(await startTestAgent(folder, 'edge-e', server.port, { config: { links } }))
    await eventually('it is there', () => isServerReady(late) && knows(late, 'edge-b'))
    await assert.rejects(
      dial(late, 'edge-b', target.port),
      { message: reason('edge-b') },
      'who comes later is told as well',
    )
    await server.tunnel.reload({ relay: { ...capped, bytesPerNodeAndDay: 1e9 } })
    const patientUntil = performance.now() + 15_000
    for (;;) {
      try {
        const again = await dial(a, 'edge-b', target.port)
        await once(again, 'data')
        again.destroy()
        break
      } catch (error) {
        if (performance.now() > patientUntil) throw error
      }
    }
    other.destroy()
  })
}
