/**
 * What flows leave behind, in one process that holds both agents and the relay between them:
 *
 *     edge-a ---- server (relay, directory) ---- edge-b ---- TCP target
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { queryObjects, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import {
  dial,
  eventually,
  isServerReady,
  pathTo,
  readAll,
  startTcpServer,
  startTestAgent,
  startTestServer,
  type TestAgent,
  TestFolder,
} from './tunnel-mesh.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')
const megabyte = 1024 * 1024

// The relay that peers without links use.
const config = { links: false }

const running = new AsyncDisposableStack()
let a: TestAgent
let b: TestAgent

before(async () => {
  const folder = running.use(await TestFolder.create())
  const server = running.use(await startTestServer(folder))
  a = running.use(await startTestAgent(folder, 'edge-a', server.port, { config }))
  b = running.use(await startTestAgent(folder, 'edge-b', server.port, { config }))
  await eventually('both agents are connected', () => isServerReady(a) && isServerReady(b))
})
after(() => running.disposeAsync())

/** What lives on after everything under way has ended. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    collectGarbage()
  }
}

test('the relay keeps nothing of what crossed it while the connection lives on', async () => {
  let received = 0
  await using target = await startTcpServer((socket) => {
    socket.on('data', (chunk) => {
      received += chunk.length
    })
  })
  b.serve('10.1.1.1', target.port)
  const stream = await dial(a, 'edge-b', target.port)
  assert.equal(pathTo(a, 'edge-b'), 'relayed')
  const block = Buffer.alloc(megabyte, 'edgemesh')
  const send = async (blocks: number) => {
    const expected = received + blocks * megabyte
    for (let sent = 0; sent < blocks; sent++) if (!stream.write(block)) await once(stream, 'drain')
    await eventually('everything has arrived', () => received === expected, 20_000)
    await settle()
    return process.memoryUsage().arrayBuffers
  }
  const before = await send(4)
  const kept = (await send(24)) - before
  assert.ok(kept < 4 * megabyte, `${(kept / megabyte).toFixed(1)} MB of 24 MB are still held`)
  stream.destroy()
})

test('flows that have ended leave no abort signals behind', async () => {
  await using target = await startTcpServer((socket) => void socket.pipe(socket))
  b.serve('10.1.1.1', target.port)
  const converse = async (count: number) => {
    for (let done = 0; done < count; done++) {
      const stream = await dial(a, 'edge-b', target.port)
      stream.end('hello')
      assert.equal((await readAll(stream)).toString(), 'hello')
    }
    await settle()
    return queryObjects(AbortSignal, { format: 'count' })
  }
  const before = await converse(20)
  const left = (await converse(200)) - before
  assert.ok(left < 100, `${left} abort signals are left of 200 flows`)
})
