import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
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
  TestFolder,
} from './tunnel-mesh.ts'

test('a flow crosses the relay, with half-close, and nothing is lost in 8 MB each way', async () => {
  await using folder = await TestFolder.create()
  await using server = await startTestServer(folder)
  await using a = await startTestAgent(folder, 'edge-a', server.port)
  await using b = await startTestAgent(folder, 'edge-b', server.port)
  const answer = randomBytes(8 * 1024 * 1024)
  let received = ''
  await using target = await startTcpServer(async (socket) => {
    // Answers only once it has read everything, so the client's end must arrive as an end.
    received = sha256(await readAll(socket))
    socket.end(answer)
  })
  b.serve('10.1.1.1', target.port)
  await eventually('a is ready', () => isServerReady(a) && knows(a, 'edge-b'))
  const stream = await dial(a, 'edge-b', target.port)
  assert.equal(pathTo(a, 'edge-b'), 'relayed')
  const request = randomBytes(8 * 1024 * 1024)
  stream.end(request)
  assert.equal(sha256(await readAll(stream)), sha256(answer))
  assert.equal(received, sha256(request))
})

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
