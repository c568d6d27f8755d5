import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { readBorrowed } from './borrowed-read.ts'
import { createMemoryStreamPair } from './memory-stream.ts'
import { startTcpListener, type TcpSocket } from './tcp-listener.ts'

async function accepted(resources: AsyncDisposableStack) {
  const server = Promise.withResolvers<TcpSocket>()
  const onConnection = server.resolve
  const listener = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection }))
  const client = connect(listener.port, '127.0.0.1')
  resources.defer(() => void client.destroy())
  return { client, server: await server.promise }
}

test('bytes of a socket are lent, and belong to the next read afterwards', async () => {
  await using resources = new AsyncDisposableStack()
  const one = await accepted(resources)
  const two = await accepted(resources)
  const lent: Buffer[] = []
  const seen: string[] = []
  let told = Promise.withResolvers<void>()
  for (const { server } of [one, two]) {
    readBorrowed(server, (bytes) => {
      lent.push(bytes)
      seen.push(bytes.toString())
      told.resolve()
    })
    server.resume()
  }
  one.client.write('first')
  await told.promise
  told = Promise.withResolvers()
  two.client.write('other')
  await told.promise
  assert.deepEqual(seen, ['first', 'other'])
  assert.equal(lent[0]?.toString(), 'other')
})

test('whoever takes the socket over gets the rest as data, which stays', async () => {
  await using resources = new AsyncDisposableStack()
  const { client, server } = await accepted(resources)
  const reading = readBorrowed(server, (bytes) => {
    assert.equal(bytes.toString(), 'mine')
    server.pause()
    reading[Symbol.dispose]()
    server.emit('taken')
  })
  server.resume()
  client.write('mine')
  await once(server, 'taken')
  const chunks: Buffer[] = []
  server.on('data', (chunk: Buffer) => chunks.push(chunk))
  server.resume()
  for (const text of ['yours', 'yours too']) {
    client.write(text)
    await once(server, 'data')
  }
  client.end()
  await once(server, 'end')
  assert.deepEqual(chunks.map(String), ['yours', 'yours too'])
})

test('a stream that is no socket is read as usual', async () => {
  const [near, far] = createMemoryStreamPair()
  const seen: string[] = []
  const reading = readBorrowed(near, (bytes) => seen.push(bytes.toString()))
  far.write('a')
  await once(near, 'data')
  reading[Symbol.dispose]()
  far.write('b')
  await new Promise(setImmediate)
  assert.deepEqual(seen, ['a'])
})
