import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { createCatalog } from '../../catalog/index.ts'
import {
  type ByteStream,
  createMemoryStreamPair,
  DialError,
  type DialFailure,
  type DialTarget,
} from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { Socks5ListenError } from './errors.ts'
import { type Socks5Options, startSocks5Proxy } from './socks5-proxy.ts'

const host = '127.0.0.1'
const greeting = Buffer.from([5, 1, 0])
const requestFor = (name: string, port = 22) =>
  Buffer.from([5, 1, 0, 3, name.length, ...Buffer.from(name), port >> 8, port & 255])
const success = Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])

/** A proxy whose nodes echo what they are sent; `dial` may do something else. */
async function startProxy(changes: Partial<Socks5Options> & { dial?: Socks5Options['dialer']['dial'] } = {}) {
  const dialled: DialTarget[] = []
  const metrics = createMetrics()
  const catalog = createCatalog()
  const { dial = async () => echo(), ...rest } = changes
  const proxy = await startSocks5Proxy({
    config: { socks5Proxy: { enable: true, listenPort: 10_800 }, dialTimeoutMs: 5000 },
    address: host,
    port: 0,
    nodeName: 'edge-a1',
    catalog,
    dialer: {
      dial(target, signal) {
        dialled.push(target)
        return dial(target, signal)
      },
    },
    nodeAddress: () => '192.168.1.11',
    allowNodePorts: [22],
    logger: silentLogger,
    metrics,
    ...rest,
  })
  return {
    proxy,
    dialled,
    results: async () =>
      Object.fromEntries(
        (await metrics.render())
          .matchAll(/socks5_connections_total\{result="([\w-]+)"\} (\d+)/g)
          .map(([, name = '', count]) => [name, Number(count)]),
      ),
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]()
      catalog[Symbol.dispose]()
    },
  }
}

function echo(): ByteStream {
  const [near, far] = createMemoryStreamPair()
  far.on('error', () => {})
  far.pipe(far)
  return near
}

/** A client whose disposal closes it at once. */
function clientOf(port: number): Socket & AsyncDisposable {
  const socket = connect({ host, port, allowHalfOpen: true })
  socket.on('error', () => {})
  return Object.assign(socket, {
    async [Symbol.asyncDispose]() {
      socket.destroy()
    },
  })
}

async function connectTo(port: number): Promise<Socket & AsyncDisposable> {
  const socket = clientOf(port)
  await once(socket, 'connect')
  return socket
}

async function closed(socket: Socket): Promise<void> {
  socket.resume()
  while (!socket.closed) await new Promise((resolve) => setTimeout(resolve, 2))
}

/** The next bytes, that many of them; fewer when the proxy closes before. */
async function read(socket: Socket, count: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  while (length < count && !socket.readableEnded && !socket.destroyed) {
    const chunk: Buffer | null = socket.read(Math.min(count - length, Math.max(1, socket.readableLength)))
    if (chunk === null) {
      await new Promise((resolve) => setTimeout(resolve, 2))
      continue
    }
    chunks.push(chunk)
    length += chunk.length
  }
  return Buffer.concat(chunks)
}

/** Goes through greeting and request; the reply's code. */
async function replyTo(port: number, request: Buffer): Promise<number | undefined> {
  await using socket = await connectTo(port)
  socket.write(greeting)
  assert.deepEqual(await read(socket, 2), Buffer.from([5, 0]))
  socket.write(request)
  const [, code] = await read(socket, 10)
  return code
}

test('a client reaches a node by name, and bytes pass both ways to the end', async () => {
  await using started = await startProxy()
  await using socket = await connectTo(started.proxy.port)
  socket.write(greeting)
  assert.deepEqual(await read(socket, 2), Buffer.from([5, 0]))
  socket.write(requestFor('edge-b1'))
  assert.deepEqual(await read(socket, 10), success)
  socket.end('hello')
  assert.equal((await read(socket, 5)).toString(), 'hello')
  assert.equal((await read(socket, 1)).length, 0)
  assert.deepEqual(started.dialled, [
    { protocol: 'tcp', nodeName: 'edge-b1', kind: 'node', address: '0.0.0.0', port: 22 },
  ])
  assert.deepEqual(await started.results(), { ok: 1 })
})

test('a client that sends everything in one go, or byte by byte, is served the same', async () => {
  await using started = await startProxy()
  const all = Buffer.concat([greeting, requestFor('edge-b1'), Buffer.from('hello')])
  await using eager = await connectTo(started.proxy.port)
  eager.end(all)
  await using slow = await connectTo(started.proxy.port)
  slow.setNoDelay(true)
  for (const byte of all) {
    slow.write(Buffer.from([byte]))
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  slow.end()
  for (const socket of [eager, slow]) {
    assert.deepEqual(await read(socket, 17), Buffer.concat([Buffer.from([5, 0]), success, Buffer.from('hello')]))
  }
})

test('clients at the same time do not get each other’s node', async () => {
  await using started = await startProxy({
    dial: async ({ nodeName }) => {
      const [near, far] = createMemoryStreamPair()
      far.on('error', () => {})
      far.end(nodeName)
      far.resume()
      return near
    },
  })
  const answers = Array.from({ length: 50 }, async (_, index) => {
    await using socket = await connectTo(started.proxy.port)
    socket.write(greeting)
    await read(socket, 2)
    socket.write(requestFor(`edge-${index}`))
    await read(socket, 10)
    return (await read(socket, 100)).toString()
  })
  assert.deepEqual(
    await Promise.all(answers),
    Array.from({ length: 50 }, (_, index) => `edge-${index}`),
  )
})

test('this node itself is dialled at its own address, at the allowed ports only', async () => {
  await using started = await startProxy()
  assert.equal(await replyTo(started.proxy.port, requestFor('edge-a1', 22)), 0)
  assert.equal(await replyTo(started.proxy.port, requestFor('edge-a1', 23)), 2)
  assert.deepEqual(
    started.dialled.map(({ address, port }) => `${address}:${port}`),
    ['192.168.1.11:22'],
  )
})

test('every failure has the reply that RFC 1928 has for it', async () => {
  const expected: readonly (readonly [DialFailure, number])[] = [
    ['refused', 5],
    ['unreachable', 4],
    ['forbidden', 2],
    ['unknown-target', 1],
    ['no-path', 3],
    ['overloaded', 1],
  ]
  for (const [failure, code] of expected) {
    await using started = await startProxy({ dial: () => Promise.reject(new DialError(failure, 'no')) })
    assert.equal(await replyTo(started.proxy.port, requestFor('edge-b1')), code, failure)
    assert.deepEqual(await started.results(), { failed: 1 })
  }
})

test('BIND, UDP ASSOCIATE, unknown types, addresses of no node and odd names are refused by reply', async () => {
  await using started = await startProxy()
  const { port } = started.proxy
  assert.equal(await replyTo(port, Buffer.from([5, 2, 0, 1, 1, 2, 3, 4, 0, 22])), 7)
  assert.equal(await replyTo(port, Buffer.from([5, 3, 0, 1, 1, 2, 3, 4, 0, 22])), 7)
  assert.equal(await replyTo(port, Buffer.from([5, 1, 0, 9, 1, 2, 3, 4, 0, 22])), 8)
  assert.equal(await replyTo(port, Buffer.from([5, 1, 0, 1, 1, 2, 3, 4, 0, 22])), 2)
  assert.equal(await replyTo(port, requestFor('not a name')), 4)
  assert.deepEqual(started.dialled, [])
})

test('a client that insists on authentication is told that there is none', async () => {
  await using started = await startProxy()
  await using socket = await connectTo(started.proxy.port)
  socket.write(Buffer.from([5, 2, 1, 2]))
  assert.deepEqual(await read(socket, 100), Buffer.from([5, 0xff]))
  assert.deepEqual(await started.results(), { 'no-method': 1 })
})

test('a client that says nothing, or something else, is closed, and others are served meanwhile', async () => {
  await using started = await startProxy({ headTimeoutMs: 200 })
  await using idle = await connectTo(started.proxy.port)
  await using half = await connectTo(started.proxy.port)
  half.write(Buffer.concat([greeting, requestFor('edge-b1').subarray(0, 6)]))
  await using browser = await connectTo(started.proxy.port)
  browser.write('GET / HTTP/1.1\r\n\r\n')
  assert.equal(await replyTo(started.proxy.port, requestFor('edge-b1')), 0)
  for (const socket of [idle, half, browser]) await closed(socket.once('end', () => socket.end()))
})

test('a dial that takes too long is given up with a reply, and one that nobody waits for is ended', async () => {
  const ended = Promise.withResolvers<unknown>()
  const dial: Socks5Options['dialer']['dial'] = (_target, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      signal.addEventListener('abort', () => ended.resolve(signal.reason), { once: true })
    })
  const config = { socks5Proxy: { enable: true, listenPort: 10_800 }, dialTimeoutMs: 100 }
  await using started = await startProxy({ dial, config })
  assert.equal(await replyTo(started.proxy.port, requestFor('edge-b1')), 4)
  await using patient = await startProxy({
    dial: (target, signal) => {
      left.resetAndDestroy()
      return dial(target, signal)
    },
  })
  const left = await connectTo(patient.proxy.port)
  left.write(Buffer.concat([greeting, requestFor('edge-b1')]))
  await ended.promise
})

test('beyond the limit connections are reset at once', async () => {
  await using started = await startProxy({ maxConnections: 1 })
  await using first = await connectTo(started.proxy.port)
  first.write(greeting)
  await read(first, 2)
  await using second = clientOf(started.proxy.port)
  await closed(second)
  assert.deepEqual(await started.results(), { 'too-many': 1 })
})

test('draining takes no new connections and waits for the open ones', async () => {
  await using started = await startProxy()
  const socket = await connectTo(started.proxy.port)
  socket.write(Buffer.concat([greeting, requestFor('edge-b1')]))
  await read(socket, 12)
  let isDrained = false
  const draining = started.proxy.drain(new AbortController().signal).then(() => {
    isDrained = true
  })
  await assert.rejects(once(connect({ host, port: started.proxy.port }), 'connect'), { code: 'ECONNREFUSED' })
  assert.equal(isDrained, false)
  socket.end()
  socket.resume()
  await draining
})

test('a taken port is an error that names it and the key to change', async () => {
  await using started = await startProxy()
  await assert.rejects(startProxy({ port: started.proxy.port }), (error) => {
    assert.ok(error instanceof Socks5ListenError)
    assert.equal(error.message, `Cannot serve SOCKS5 on 127.0.0.1 port ${started.proxy.port}`)
    assert.match(error.remedy, /socks5Proxy\.listenPort/)
    return true
  })
})
