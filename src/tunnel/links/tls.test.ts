import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { connectTcp, resetStream, startTcpListener, type TcpSocket } from '../../net/index.ts'
import { cipherOf, createLinkTls } from './tls.ts'

const signal = AbortSignal.timeout(60_000)

test('both ends of a link know the same secret, and nobody else does', async () => {
  const tls = createLinkTls()
  const secrets: string[] = []
  for (let round = 0; round < 2; round++) {
    const { promise, resolve } = Promise.withResolvers<Buffer>()
    await using listener = await startTcpListener({
      host: '127.0.0.1',
      port: 0,
      onConnection: async (socket) => {
        const secured = await tls.secure(socket, 'server', signal)
        resolve(secured.exportKeyingMaterial(32, 'test', Buffer.alloc(0)))
      },
    })
    const socket = await tls.secure(await connectTcp('127.0.0.1', listener.port, signal), 'client', signal)
    const secret = socket.exportKeyingMaterial(32, 'test', Buffer.alloc(0))
    assert.ok(secret.equals(await promise))
    secrets.push(secret.toString('hex'))
    socket.destroy()
  }
  assert.notEqual(secrets[0], secrets[1])
})

// Where OpenSSL has not been left, this ends the process, and with it the whole file.
test('a connection that is destroyed as soon as its handshake is done costs no more than the link', async () => {
  const tls = createLinkTls()
  const sides: string[] = []
  const secured = async (socket: TcpSocket, side: 'client' | 'server') => {
    const link = await tls.secure(socket, side, signal)
    sides.push(side)
    socket.resetAndDestroy()
    link.destroy()
  }
  await using listener = await startTcpListener({
    host: '127.0.0.1',
    port: 0,
    onConnection: (socket) =>
      void secured(
        socket.on('error', () => {}),
        'server',
      ).catch(() => {}),
  })
  for (let round = 0; round < 20; round++) {
    const socket = await connectTcp('127.0.0.1', listener.port, signal)
    await secured(
      socket.on('error', () => {}),
      'client',
    )
  }
  assert.equal(sides.filter((side) => side === 'client').length, 20)
})

test('a connection that is reset with the last bytes of the handshake costs no more than the link', async (t) => {
  const tls = createLinkTls()
  await using listener = await startTcpListener({
    host: '127.0.0.1',
    port: 0,
    onConnection: (socket) => void tls.secure(socket, 'server', signal).catch(() => {}),
  })
  // Both the server's part of the handshake and the reset are there when the client next looks.
  const between = createServer(async (client) => {
    client.on('error', () => {})
    const server = await connectTcp('127.0.0.1', listener.port, signal)
    client.on('data', (bytes) => server.write(bytes))
    server.once('data', (bytes: Buffer) => {
      client.write(bytes)
      client.resetAndDestroy()
      server.destroy()
    })
  })
  t.after(() => between.close())
  between.listen(0, '127.0.0.1')
  await once(between, 'listening')
  const address = between.address()
  assert.ok(typeof address === 'object' && address)
  for (let round = 0; round < 20; round++) {
    const socket = await connectTcp('127.0.0.1', address.port, signal)
    await assert.rejects(async () => {
      const secured = await tls.secure(socket, 'client', signal)
      secured.write('the first bytes of ours')
      await once(secured.resume(), 'end')
      throw new Error('it has ended')
    })
    // As who owns the socket does.
    resetStream(socket, new Error('no link'))
  }
})

test('the cipher is the one that the CPU is fast at, and the other one is there for peers', () => {
  assert.match(cipherOf(true), /^TLS_AES_128_GCM_SHA256:TLS_CHACHA20/)
  assert.match(cipherOf(false), /^TLS_CHACHA20_POLY1305_SHA256:TLS_AES/)
})
