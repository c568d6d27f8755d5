import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { fetchText } from './fetch-text.ts'

const never = new AbortController().signal

async function startDevice(onRequest: RequestListener, resources: AsyncDisposableStack): Promise<URL> {
  const server = createServer(onRequest)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  resources.defer(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(() => resolve()))
  })
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/control`)
}

test('a request carries its fields and its body, from the address that is asked for', async () => {
  await using resources = new AsyncDisposableStack()
  const url = await startDevice((request, response) => {
    request.setEncoding('utf8')
    request.on('data', (body: string) => {
      const { soapaction, 'content-length': length } = request.headers
      response.statusCode = 500
      response.end([request.method, request.url, soapaction, length, body, request.socket.remoteAddress].join(' '))
    })
  }, resources)
  const answer = await fetchText({
    url,
    method: 'POST',
    headers: { soapaction: 'a' },
    body: 'grüße',
    source: '127.0.0.2',
    maxBytes: 100,
    signal: never,
  })
  assert.deepEqual(answer, { status: 500, text: 'POST /control a 7 grüße 127.0.0.2' })
})

test('an answer that is too long is refused, one that is just short enough is not', async () => {
  await using resources = new AsyncDisposableStack()
  const url = await startDevice((_request, response) => response.end('0123456789'), resources)
  assert.equal((await fetchText({ url, maxBytes: 10, signal: never })).text, '0123456789')
  await assert.rejects(fetchText({ url, maxBytes: 9, signal: never }), /longer than 9 bytes/)
})

test('a device that hangs is given up with the signal, before and amid its answer', async () => {
  await using resources = new AsyncDisposableStack()
  for (const start of ['', 'half of it']) {
    const stop = new AbortController()
    const url = await startDevice((_request, response) => {
      if (start !== '') response.write(start)
      setImmediate(() => stop.abort(new Error('the node stops')))
    }, resources)
    await assert.rejects(fetchText({ url, maxBytes: 100, signal: stop.signal }), /the node stops/)
    await assert.rejects(fetchText({ url, maxBytes: 100, signal: stop.signal }), /the node stops/)
  }
})

test('a device that is not there, or cuts its answer, is an error', async () => {
  await using resources = new AsyncDisposableStack()
  const cut = await startDevice((request, response) => {
    response.setHeader('content-length', 100)
    response.write('half of it', () => request.socket.destroy())
  }, resources)
  await assert.rejects(fetchText({ url: cut, maxBytes: 100, signal: never }), { code: 'ECONNRESET' })
  await assert.rejects(fetchText({ url: new URL('http://127.0.0.1:1/'), maxBytes: 100, signal: never }), {
    code: 'ECONNREFUSED',
  })
})
