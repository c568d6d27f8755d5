import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import type { ControlHandler } from './control-socket.ts'
import { startHttpListener } from './http-listener.ts'
import { AddressInUseError } from './listen-error.ts'

const handler: ControlHandler = ({ method, url }) => {
  if (url === '/fails') throw new Error('not today')
  return url === '/page' ? { status: 200, contentType: 'text/plain', body: `${method}\n` } : undefined
}

/** Unlike `once` it takes a reset for an end. */
function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => {})
    if (socket.closed) resolve()
    else socket.once('close', () => resolve())
  })
}

test('requests are answered, and what is not there or not asked rightly is an answer, too', async () => {
  await using listener = await startHttpListener({ host: '127.0.0.1', port: 0, handler })
  const ask = async (path: string, method: string) => {
    const response = await fetch(`http://127.0.0.1:${listener.port}${path}`, { method })
    return [response.status, await response.text()]
  }
  assert.deepEqual(await ask('/page', 'GET'), [200, 'GET\n'])
  assert.deepEqual(await ask('/absent', 'GET'), [404, 'no such page: /absent\n'])
  assert.deepEqual(await ask('/page', 'DELETE'), [405, 'only GET and POST are served here\n'])
  assert.deepEqual(await ask('/fails', 'GET'), [500, 'not today\n'])
})

test('a port that is taken is an error of its own', async () => {
  await using first = await startHttpListener({ host: '127.0.0.1', port: 0, handler })
  await assert.rejects(startHttpListener({ host: '127.0.0.1', port: first.port, handler }), AddressInUseError)
})

test('disposal cuts connections that wait', async () => {
  const listener = await startHttpListener({ host: '127.0.0.1', port: 0, handler })
  const socket = connect(listener.port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write('GET /page HTTP/1.1\r\n')
  const closed = closeOf(socket)
  await listener[Symbol.asyncDispose]()
  await closed
})

test('whoever opens connections and asks nothing keeps nobody else out for long', async () => {
  await using listener = await startHttpListener({ host: '127.0.0.1', port: 0, handler })
  const idle = Array.from({ length: 40 }, () => connect(listener.port, '127.0.0.1'))
  await Promise.race(idle.map(closeOf))
  assert.ok(
    idle.some(({ closed }) => !closed),
    'not all are cut',
  )
  for (const socket of idle) socket.destroy()
  await Promise.all(idle.map(closeOf))
  assert.equal((await fetch(`http://127.0.0.1:${listener.port}/page`)).status, 200)
})
