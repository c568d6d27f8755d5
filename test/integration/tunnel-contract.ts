/**
 * What holds for flows whatever carries them. Agents that only a relay can reach, on one server:
 *
 *     edge-a ---- server (relay, directory) ---- edge-b ---- TCP target
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { after, before, suite, test } from 'node:test'
import { createDirectDialer, DialError } from '../../src/net/index.ts'
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

/** Runs the suite with agents of this configuration. */
export function describeTunnel(name: string, config: Partial<TunnelConfig>): void {
  suite(name, () => {
    const running = new AsyncDisposableStack()
    let server: TestServer
    let a: TestAgent
    let b: TestAgent

    before(async () => {
      const folder = running.use(await TestFolder.create())
      server = running.use(await startTestServer(folder))
      a = running.use(await startTestAgent(folder, 'edge-a', server.port, { config }))
      b = running.use(await startTestAgent(folder, 'edge-b', server.port, { config }))
      await eventually('both agents are connected', () => isServerReady(a) && isServerReady(b))
    })
    after(() => running.disposeAsync())

    test('a flow crosses the relay with half-close, and nothing is lost in 8 MB each way', async () => {
      const answer = randomBytes(8 * 1024 * 1024)
      let received = ''
      await using target = await startTcpServer(async (socket) => {
        // Answers only once it has read everything, so the client's end must arrive as an end.
        received = sha256(await readAll(socket))
        socket.end(answer)
      })
      b.serve('10.1.1.1', target.port)
      const stream = await dial(a, 'edge-b', target.port)
      assert.equal(pathTo(a, 'edge-b'), 'relayed')
      const request = randomBytes(8 * 1024 * 1024)
      stream.end(request)
      assert.equal(sha256(await readAll(stream)), sha256(answer))
      assert.equal(received, sha256(request))
      await eventually('the flow is counted out', () => openFlows(a, 'edge-b') === 0 && openFlows(b, 'edge-a') === 0)
    })

    test('a hundred flows at once share one relayed connection and none is mixed up', async () => {
      await using target = await startTcpServer((socket) => void socket.pipe(socket))
      b.serve('10.1.1.1', target.port)
      const echoes = Array.from({ length: 100 }, async (_, index) => {
        const stream = await dial(a, 'edge-b', target.port)
        stream.end(`flow ${index}`)
        return (await readAll(stream)).toString()
      })
      assert.deepEqual(
        await Promise.all(echoes),
        Array.from({ length: 100 }, (_, index) => `flow ${index}`),
      )
    })

    test('a slow reader holds the sender back instead of filling memory', async () => {
      const released = Promise.withResolvers<void>()
      const total = 16 * 1024 * 1024
      let read = 0
      await using target = await startTcpServer(async (socket) => {
        socket.pause()
        await released.promise
        socket.on('data', (chunk: Buffer) => {
          read += chunk.length
        })
        socket.on('end', () => socket.end())
        socket.resume()
      })
      b.serve('10.1.1.1', target.port)
      const stream = await dial(a, 'edge-b', target.port)
      let sent = 0
      const block = randomBytes(64 * 1024)
      const sending = (async () => {
        while (sent < total) {
          sent += block.length
          if (!stream.write(block)) await once(stream, 'drain')
        }
        stream.end()
      })()
      await eventually('the sender is held', () => stream.writableNeedDrain)
      const before = await settled(() => sent)
      assert.ok(before < total, `sent all ${before} bytes to a reader that reads nothing`)
      released.resolve()
      await sending
      stream.resume()
      await once(stream, 'close')
      assert.equal(read, total)
    })

    test('a reader that takes piece after piece, slower than they come, gets all of it', async () => {
      const size = 3 * 1024 * 1024
      await using target = await startTcpServer((socket) => void socket.end(Buffer.alloc(size, 'x')))
      b.serve('10.1.1.1', target.port)
      const stream = await dial(a, 'edge-b', target.port)
      let bytes = 0
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        stream.pause()
        setTimeout(() => stream.resume(), 15)
      })
      await once(stream, 'end')
      assert.equal(bytes, size)
    })

    test('a target that refuses is told with its address and node', async () => {
      const closed = await startTcpServer(() => {})
      await closed[Symbol.asyncDispose]()
      b.serve('10.1.1.1', closed.port)
      await assert.rejects(dial(a, 'edge-b', closed.port), (error) => {
        assert.ok(error instanceof DialError)
        assert.equal(error.failure, 'refused')
        assert.equal(error.message, `connect ECONNREFUSED 127.0.0.1:${closed.port} on edge-b`)
        return true
      })
    })

    test('loopback, link-local, the unspecified address and multicast are never dialled for peers', async () => {
      await using target = await startTcpServer(() => assert.fail('dialled'))
      for (const address of ['127.0.0.1', '169.254.169.254', '169.254.64.1', '0.0.0.0', '224.0.0.1', '::1']) {
        b.serve(address, target.port)
        await assert.rejects(dial(a, 'edge-b', target.port, { address }), { name: 'DialError', failure: 'forbidden' })
      }
      assert.match(await b.metrics.render(), /edgemesh_tunnel_refused_targets_total\{reason="address"\} 6/)
      assert.ok(b.log.some(({ message, fields }) => message === 'target refused' && fields.peer === 'edge-a'))
    })

    test('a target that no Service has is refused as unknown', async () => {
      await assert.rejects(dial(a, 'edge-b', 9), (error) => {
        assert.ok(error instanceof DialError)
        assert.equal(error.failure, 'unknown-target')
        assert.match(error.message, /10\.1\.1\.1:9 on edge-b: no Service has this endpoint there/)
        return true
      })
    })

    test('a target that becomes known while the flow waits is dialled', async () => {
      await using target = await startTcpServer((socket) => void socket.end('late'))
      const dialling = dial(a, 'edge-b', target.port, { address: '10.9.9.9' })
      setTimeout(() => b.serve('10.9.9.9', target.port), 300)
      assert.equal((await readAll(await dialling)).toString(), 'late')
    })

    test('a reset of the client reaches the target as a reset', async () => {
      const { promise: failure, resolve } = Promise.withResolvers<NodeJS.ErrnoException>()
      await using target = await startTcpServer((socket) => void socket.on('error', resolve).resume())
      b.serve('10.1.1.1', target.port)
      const stream = await dial(a, 'edge-b', target.port)
      stream.write('half a request')
      stream.destroy(new Error('client went away'))
      assert.equal((await failure).code, 'ECONNRESET')
    })

    test('a reset of the target reaches the client as a reset, not as an end', async () => {
      await using target = await startTcpServer((socket) => void socket.once('data', () => socket.resetAndDestroy()))
      b.serve('10.1.1.1', target.port)
      const stream = await dial(a, 'edge-b', target.port)
      stream.write('x')
      await assert.rejects(readAll(stream), {
        name: 'Error',
        code: 'ECONNRESET',
        message: /^stream reset by the peer/,
      })
    })

    test('an unknown node fails within moments and says what is missing', async () => {
      await assert.rejects(dial(a, 'edge-nowhere', 80), {
        failure: 'no-path',
        message: 'Cannot reach edge-nowhere: no node of this name has joined the mesh',
      })
    })

    test('a second node with a name that is taken is refused loudly, and the first keeps it', async () => {
      await using folder = await TestFolder.create()
      await using impostor = await startTestAgent(folder, 'edge-b', server.port, { config })
      await eventually('the server has refused it', () => server.log.some(({ level }) => level === 'error'))
      const line = server.log.find(({ level }) => level === 'error')
      assert.match(line?.fields.reason ?? '', new RegExp(`belongs to ${b.tunnel.status().peerId}`))
      assert.match(line?.fields.reason ?? '', new RegExp(impostor.tunnel.status().peerId))
      assert.match(line?.fields.remedy ?? '', /edgemesh unpin edge-b/)
      await eventually('the impostor knows why', () => (impostor.tunnel.status().servers[0]?.lastError ?? '') !== '')
      assert.match(impostor.tunnel.status().servers[0]?.lastError ?? '', /belongs to another identity/)
      assert.equal(peerIdOf(a, 'edge-b'), b.tunnel.status().peerId)
    })

    test('the server lists its agents and their reservations', () => {
      const { records, reservations } = server.tunnel.status()
      assert.deepEqual(
        records.map(({ name, connected }) => ({ name, connected })),
        [
          { name: 'edge-a', connected: true },
          { name: 'edge-b', connected: true },
        ],
      )
      assert.ok(reservations >= 2)
      assert.ok(knows(b, 'edge-a'))
    })

    test('a port of the far node itself is reached at its own address when it is allowed, and refused when it is not', async () => {
      await using target = await startTcpServer((socket) => void socket.pipe(socket))
      await using folder = await TestFolder.create()
      await using node = await startTestAgent(folder, 'edge-n', server.port, {
        config: { allowNodePorts: [target.port] },
        localDialer: createDirectDialer(),
      })
      await eventually('the node is known', () => isServerReady(node) && knows(a, 'edge-n'))
      const stream = await dial(a, 'edge-n', target.port, { kind: 'node', address: '0.0.0.0' })
      stream.end('hello')
      assert.equal((await readAll(stream)).toString(), 'hello')
      await assert.rejects(dial(a, 'edge-n', 22, { kind: 'node' }), (error) => {
        assert.ok(error instanceof DialError)
        assert.deepEqual([error.failure, /port 22 of edge-n/.test(error.message)], ['forbidden', true])
        return true
      })
      await assert.rejects(dial(a, 'edge-n', target.port, { address: '127.0.0.1' }), { failure: 'forbidden' })
    })
  })
}

/** The value once it has stopped changing. */
async function settled(value: () => number): Promise<number> {
  let last = -1
  while (value() !== last) {
    last = value()
    await new Promise((resolve) => setTimeout(resolve, 150))
  }
  return last
}

function openFlows(agent: TestAgent, name: string): number | undefined {
  return agent.tunnel.status().peers.find((peer) => peer.name === name)?.openFlows
}

function peerIdOf(agent: TestAgent, name: string): string | undefined {
  return agent.tunnel.status().peers.find((peer) => peer.name === name)?.peerId
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
