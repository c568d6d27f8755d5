import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { encodeAttribute } from './netlink.ts'
import { openTcpInspector, progressIn, type TcpEnds } from './tcp-progress.ts'

/** A connection whose other end reads nothing until it is resumed. */
async function openConnection() {
  const accepted = Promise.withResolvers<Socket>()
  const server = createServer({ pauseOnConnect: true }, (socket) => accepted.resolve(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(near, 'connect')
  const far = await accepted.promise
  const ends: TcpEnds = {
    local: { address: '127.0.0.1', port: near.localPort ?? 0 },
    remote: { address: '127.0.0.1', port: near.remotePort ?? 0 },
  }
  return {
    near,
    far,
    ends,
    async [Symbol.asyncDispose]() {
      near.destroy()
      far.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

test('the kernel tells what was acknowledged, and what waits because nobody reads it', async () => {
  await using connection = await openConnection()
  using inspector = await openTcpInspector()
  const total = 32 * 1024 * 1024
  const written = new Promise<void>((resolve) => connection.near.write(Buffer.alloc(total), () => resolve()))
  for (let look = 0; ; look++) {
    const progress = await inspector.progressOf(connection.ends)
    if ((progress?.waitingBytes ?? 0) > 16_384) break
    assert.ok(look < 200, JSON.stringify(progress))
    await delay(10)
  }
  const before = await inspector.progressOf(connection.ends)
  assert.ok(before && before.acknowledgedBytes < total, JSON.stringify(before))
  connection.far.resume()
  await written
  for (let look = 0; ; look++) {
    const after = await inspector.progressOf(connection.ends)
    if ((after?.acknowledgedBytes ?? 0) >= total && after?.waitingBytes === 0) break
    assert.ok(look < 200, JSON.stringify(after))
    await delay(10)
  }
})

test('nothing is told of a connection that does not exist', async () => {
  using inspector = await openTcpInspector()
  const end = { address: '127.0.0.1', port: 1 }
  assert.equal(await inspector.progressOf({ local: end, remote: end }), undefined)
})

test('a kernel that does not count what was acknowledged tells nothing', () => {
  const head = Buffer.alloc(72)
  assert.equal(progressIn(head), undefined)
  assert.equal(progressIn(Buffer.concat([head, encodeAttribute(2, Buffer.alloc(104))])), undefined)
  assert.deepEqual(progressIn(Buffer.concat([head, encodeAttribute(2, Buffer.alloc(128))])), {
    acknowledgedBytes: 0,
    waitingBytes: 0,
  })
})
