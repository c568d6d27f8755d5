import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { whenConnected } from './when-connected.ts'

const never = new AbortController().signal
let server: Server
let port = 0

before(async () => {
  server = createServer((socket) => void socket.on('error', () => {}))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = Object(server.address()).port
})
after(() => void server.close())

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve()
    else socket.once('close', () => resolve())
  })
}

test('a socket that connects is given, and may fail later without anybody who listens', async () => {
  const socket = connect(port, '127.0.0.1')
  assert.equal(await whenConnected(socket, never), socket)
  socket.destroy(new Error('lost'))
  await closed(socket)
})

test('a connection that is of no use is reset, and the reason told', async () => {
  const accepted = once(server, 'connection')
  const refused = whenConnected(connect(port, '127.0.0.1'), never, { refusalOf: () => new Error('it is ours') })
  await assert.rejects(refused, /it is ours/)
  const [far] = await accepted
  await closed(far)
  assert.equal(far.errored?.code, 'ECONNRESET')
})

test('an error is told in the words of the caller, else as it is', async () => {
  const free = createServer()
  free.listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port: closed } = Object(free.address())
  free.close()
  await once(free, 'close')
  await assert.rejects(whenConnected(connect(closed, '127.0.0.1'), never), { code: 'ECONNREFUSED' })
  const errorOf = ({ code }: NodeJS.ErrnoException) => new Error(`not there: ${code}`)
  await assert.rejects(whenConnected(connect(closed, '127.0.0.1'), never, { errorOf }), /not there: ECONNREFUSED/)
})

test('a dial that is given up leaves no socket', async () => {
  const gone = new AbortController()
  const socket = connect(port, '127.0.0.1')
  const connecting = whenConnected(socket, gone.signal)
  gone.abort(new Error('nobody waits'))
  await assert.rejects(connecting, /nobody waits/)
  assert.ok(socket.destroyed)
})
