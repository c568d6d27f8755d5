/**
 * The proxy over loopback TCP; 127.0.0.2 and 127.0.0.3 play synthetic addresses.
 *
 *     client -> 127.0.0.2:port (shop/web) \
 *     client -> 127.0.0.3:port (shop/api)  > userspace proxy -> backends on 127.0.0.1
 *     client -> 127.0.0.9:port (nobody)   /
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Backend } from '../../model/index.ts'
import {
  type ByteStream,
  createDirectDialer,
  createMemoryStreamPair,
  DialError,
  type Dialer,
  PathLostError,
  resetStream,
  startTcpListener,
  type TcpSocket,
} from '../../net/index.ts'
import { createMetrics, type Logger, silentLogger } from '../../observability/index.ts'
import { placed } from '../places.fixture.ts'
import { placeKeyOf } from '../synthetic-addresses.ts'
import { startUserspaceProxy, type UserspaceProxyOptions } from './userspace-proxy.ts'

const webAddress = '127.0.0.2'
const apiAddress = '127.0.0.3'
const direct = createDirectDialer()
const never = new AbortController().signal

/** A proxy on loopback, its backends and clients; all gone when the test ends. */
async function createFixture(resources: AsyncDisposableStack, options: Partial<UserspaceProxyOptions> = {}) {
  const metrics = createMetrics()
  const warnings: { readonly servicePort?: string; readonly reason?: string }[] = []
  const logger: Logger = { ...silentLogger, warn: (fields) => void warnings.push(fields) }
  const proxy = resources.use(
    await startUserspaceProxy({
      host: '0.0.0.0',
      port: 0,
      dialer: direct,
      balancing: 'round-robin',
      dialTimeoutMs: 2_000,
      random: () => 0,
      logger,
      metrics,
      ...options,
    }),
  )
  const backend = async (onConnection: (socket: TcpSocket) => void): Promise<Backend> => {
    const listener = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection }))
    return { address: listener.address, port: listener.port }
  }
  const connect = async (address = webAddress): Promise<ByteStream> => {
    const client = await direct.dial({ protocol: 'tcp', address, port: proxy.ports[0] ?? 0 }, never)
    resources.defer(() => void client.destroy())
    return client
  }
  const route = (preferred: readonly Backend[], others: readonly Backend[] = []) =>
    void proxy.setRoutes(placed(proxy, [[webAddress, { id: 'shop/web:80/tcp', protocol: 'tcp', preferred, others }]]))
  return { proxy, metrics, warnings, backend, connect, route }
}

/** Sends, ends its direction, and returns the whole answer. */
async function exchange(client: ByteStream, request: string): Promise<string> {
  client.end(request)
  return await text(client)
}

/** How a new connection ends; a reset may come before this very process has seen its own connect succeed. */
async function endOfNew(connecting: Promise<ByteStream>): Promise<string> {
  try {
    return await endOf(await connecting)
  } catch (error) {
    const cause = error instanceof DialError ? (error.cause as NodeJS.ErrnoException) : undefined
    return cause?.code ?? String(error)
  }
}

/** How the client's connection ended: the error's code, or `orderly` after an end without error. */
function endOf(client: ByteStream): Promise<string> {
  client.resume()
  return new Promise((resolve) => {
    client.once('end', () => resolve('orderly'))
    client.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
}

/** Answers with its name and the whole request once the client ended its direction. */
function echoAtEnd(name: string): (socket: TcpSocket) => void {
  return (socket) => {
    void text(socket).then(
      (request) => socket.end(`${name}: ${request}`),
      () => {},
    )
  }
}

/** A backend that refuses: its port was free a moment ago. */
async function refusingBackend(): Promise<Backend> {
  const listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: () => {} })
  await listener[Symbol.asyncDispose]()
  return { address: '127.0.0.1', port: listener.port }
}

/** Dials like the direct dialer, but never settles for these ports until the signal aborts. */
function dialerThatHangsOn(hanging: Backend, onAbort: () => void = () => {}): Dialer {
  return {
    dial(target, signal) {
      if (target.port !== hanging.port) return direct.dial(target, signal)
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          onAbort()
          reject(signal.reason)
        })
      })
    },
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5_000
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'the condition never came true')
    await delay(2)
  }
}

test('the address that a connection arrives at names the ServicePort', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, connect } = await createFixture(resources)
  const web = await backend(echoAtEnd('web'))
  const api = await backend(echoAtEnd('api'))
  await proxy.setRoutes(
    placed(proxy, [
      [webAddress, { id: 'shop/web:80/tcp', protocol: 'tcp', preferred: [web], others: [] }],
      [apiAddress, { id: 'shop/api:80/tcp', protocol: 'tcp', preferred: [api], others: [] }],
    ]),
  )
  assert.equal(await exchange(await connect(webAddress), 'hello'), 'web: hello')
  assert.equal(await exchange(await connect(apiAddress), 'hello'), 'api: hello')
})

test('an address without a ServicePort is answered by a reset and counted', async () => {
  await using resources = new AsyncDisposableStack()
  const { metrics, connect } = await createFixture(resources)
  assert.equal(await endOfNew(connect('127.0.0.9')), 'ECONNRESET')
  assert.match(await metrics.render(), /edgemesh_userspace_refused_total\{reason="unknown-address"\} 1/)
})

test('bytes sent while the backend is still being dialled all arrive', async () => {
  await using resources = new AsyncDisposableStack()
  const gate = Promise.withResolvers<void>()
  const dialer: Dialer = {
    async dial(target, signal) {
      await gate.promise
      return await direct.dial(target, signal)
    },
  }
  const { backend, connect, route } = await createFixture(resources, { dialer })
  const received = Promise.withResolvers<string>()
  route([
    await backend((socket) => {
      const hash = createHash('sha256')
      socket.on('data', (chunk) => hash.update(chunk))
      socket.on('end', () => {
        received.resolve(hash.digest('hex'))
        socket.end('done')
      })
    }),
  ])
  const client = await connect()
  const upload = Buffer.alloc(3 << 20, 'edge')
  client.end(upload)
  await delay(20)
  gate.resolve()
  assert.equal(await text(client), 'done')
  assert.equal(await received.promise, createHash('sha256').update(upload).digest('hex'))
})

test('a server that talks first is heard', async () => {
  await using resources = new AsyncDisposableStack()
  const { backend, connect, route } = await createFixture(resources)
  route([await backend((socket) => void socket.write('220 ready\r\n'))])
  const client = await connect()
  const [greeting] = await once(client, 'data')
  assert.equal(String(greeting), '220 ready\r\n')
})

test('a server that closes at accept gives an orderly end', async () => {
  await using resources = new AsyncDisposableStack()
  const { backend, connect, route } = await createFixture(resources)
  route([await backend((socket) => void socket.end())])
  assert.equal(await endOf(await connect()), 'orderly')
})

test('a reset by the server reaches the client as a reset, which is nothing to warn of', async () => {
  await using resources = new AsyncDisposableStack()
  const { backend, connect, route, warnings } = await createFixture(resources)
  route([await backend((socket) => void socket.once('data', () => resetStream(socket, new Error('on purpose'))))])
  const client = await connect()
  client.write('a request')
  assert.equal(await endOf(client), 'ECONNRESET')
  assert.deepEqual(warnings, [])
})

test('a backend that is lost on the way is a reset for the client, and one warning says what was lost', async () => {
  await using resources = new AsyncDisposableStack()
  const lost = new PathLostError('the connection to the peer was lost', { cause: new Error('no answer') })
  const dialer: Dialer = {
    async dial() {
      const [near, far] = createMemoryStreamPair()
      setTimeout(() => near.destroy(lost), 20)
      far.on('error', () => {}).resume()
      return near
    },
  }
  const { route, connect, warnings } = await createFixture(resources, { dialer })
  route([{ nodeName: 'edge-b1', address: '10.0.0.1', port: 80 }])
  assert.deepEqual([await endOfNew(connect()), await endOfNew(connect())], ['ECONNRESET', 'ECONNRESET'])
  assert.deepEqual(warnings, [
    { servicePort: 'shop/web:80/tcp', reason: 'edge-b1: the connection to the peer was lost: no answer', count: 1 },
  ])
})

test('a reset by the client reaches the server as a reset', async () => {
  await using resources = new AsyncDisposableStack()
  const { backend, connect, route } = await createFixture(resources)
  const serverEnd = Promise.withResolvers<string>()
  route([
    await backend((socket) => {
      socket.write('hello')
      void endOf(socket).then(serverEnd.resolve)
    }),
  ])
  const client = await connect()
  await once(client, 'data')
  resetStream(client, new Error('on purpose'))
  assert.equal(await serverEnd.promise, 'ECONNRESET')
})

test('connections take turns between the preferred backends, and the others are left alone', async () => {
  await using resources = new AsyncDisposableStack()
  const { backend, connect, route } = await createFixture(resources)
  route([await backend(echoAtEnd('a')), await backend(echoAtEnd('b'))], [await backend(echoAtEnd('other'))])
  const answers: string[] = []
  for (let count = 0; count < 6; count++) answers.push(await exchange(await connect(), ''))
  assert.deepEqual(answers, ['a: ', 'b: ', 'a: ', 'b: ', 'a: ', 'b: '])
})

test('a backend that refuses is replaced by the next one, preferred or not', async () => {
  await using resources = new AsyncDisposableStack()
  const { metrics, warnings, backend, connect, route } = await createFixture(resources)
  route([await refusingBackend()], [await backend(echoAtEnd('other'))])
  assert.equal(await exchange(await connect(), 'hello'), 'other: hello')
  assert.match(await metrics.render(), /edgemesh_userspace_dial_failures_total\{reason="refused"\} 1/)
  assert.deepEqual(warnings, [])
  // The second connection knows already.
  assert.equal(await exchange(await connect(), 'again'), 'other: again')
  assert.match(await metrics.render(), /edgemesh_userspace_dial_failures_total\{reason="refused"\} 1/)
})

test('a backend that does not answer delays one connection a little, and no other waits for it (D-7)', async () => {
  await using resources = new AsyncDisposableStack()
  const silent: Backend = { address: '127.0.0.1', port: 1 }
  const { backend, connect, route } = await createFixture(resources, {
    dialer: dialerThatHangsOn(silent),
    dialTimeoutMs: 300,
  })
  route([silent, await backend(echoAtEnd('healthy'))])
  const finished: string[] = []
  const exchangeAs = async (name: string) => {
    assert.equal(await exchange(await connect(), name), `healthy: ${name}`)
    finished.push(name)
  }
  const delayed = exchangeAs('first')
  // Accepted in order, so the second connection gets the second backend's turn.
  await exchangeAs('second')
  assert.deepEqual(finished, ['second'])
  await delayed
})

test('when no backend can be dialled the client sees a reset, and one warning says why', async () => {
  await using resources = new AsyncDisposableStack()
  const { metrics, warnings, connect, route } = await createFixture(resources)
  const [a, b] = [await refusingBackend(), await refusingBackend()]
  route([a], [b])
  for (let count = 0; count < 3; count++) assert.equal(await endOfNew(connect()), 'ECONNRESET')
  assert.equal(warnings.length, 1)
  assert.equal(warnings[0]?.servicePort, 'shop/web:80/tcp')
  assert.ok(warnings[0]?.reason?.includes(`connect ECONNREFUSED 127.0.0.1:${a.port}`))
  assert.ok(warnings[0]?.reason?.includes(`connect ECONNREFUSED 127.0.0.1:${b.port}`))
  assert.match(await metrics.render(), /edgemesh_userspace_refused_total\{reason="no-backend"\} 3/)
})

test('a ServicePort without backends is answered by a reset', async () => {
  await using resources = new AsyncDisposableStack()
  const { warnings, connect, route } = await createFixture(resources)
  route([])
  assert.equal(await endOfNew(connect()), 'ECONNRESET')
  assert.match(warnings[0]?.reason ?? '', /there are none/)
})

test('a connection gives up after four backends', async () => {
  await using resources = new AsyncDisposableStack()
  let dials = 0
  const dialer: Dialer = {
    async dial({ address, port }) {
      dials += 1
      throw new DialError('refused', `connect ECONNREFUSED ${address}:${port}`)
    },
  }
  const { connect, route } = await createFixture(resources, { dialer })
  route(Array.from({ length: 10 }, (_, index) => ({ address: '127.0.0.1', port: 1000 + index })))
  assert.equal(await endOfNew(connect()), 'ECONNRESET')
  assert.equal(dials, 4)
})

test('a client that resets while its backend is dialled ends the dial', async () => {
  await using resources = new AsyncDisposableStack()
  const silent: Backend = { address: '127.0.0.1', port: 1 }
  const dialEnded = Promise.withResolvers<void>()
  const { proxy, warnings, connect, route } = await createFixture(resources, {
    dialer: dialerThatHangsOn(silent, dialEnded.resolve),
    dialTimeoutMs: 60_000,
  })
  route([silent])
  const client = await connect()
  client.write('never answered')
  await until(() => proxy.status().openConnections === 1)
  resetStream(client, new Error('on purpose'))
  await dialEnded.promise
  await until(() => proxy.status().openConnections === 0)
  assert.deepEqual(warnings, [])
})

test('a client that ended its direction while its backend is dialled still gets the answer (D-9)', async () => {
  await using resources = new AsyncDisposableStack()
  const gate = Promise.withResolvers<void>()
  const dialer: Dialer = { dial: async (target, signal) => gate.promise.then(() => direct.dial(target, signal)) }
  const { proxy, backend, connect, route } = await createFixture(resources, { dialer })
  route([await backend(echoAtEnd('web'))])
  const answer = exchange(await connect(), 'hello')
  await until(() => proxy.status().openConnections === 1)
  await delay(10)
  gate.resolve()
  assert.equal(await answer, 'web: hello')
})

test('500 connections at once all get their own answer', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, metrics, backend, connect, route } = await createFixture(resources)
  route([await backend(echoAtEnd('a')), await backend(echoAtEnd('b'))])
  const requests = Array.from({ length: 500 }, (_, index) => `request ${index}`)
  const clients = await Promise.all(requests.map(() => connect()))
  await until(() => proxy.status().openConnections === 500)
  const answers = await Promise.all(clients.map((client, index) => exchange(client, requests[index] ?? '')))
  assert.deepEqual(
    answers.map((answer) => answer.slice(3)),
    requests,
  )
  assert.equal(answers.filter((answer) => answer.startsWith('a')).length, 250)
  await until(() => proxy.status().openConnections === 0)
  const rendered = await metrics.render()
  assert.match(rendered, /edgemesh_userspace_connections_total 500/)
  assert.match(rendered, /edgemesh_userspace_open_connections 0/)
  assert.match(rendered, /edgemesh_userspace_ended_total\{how="finished"\} 500/)
})

test('a connection above the limit is reset, and one that ends makes room', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, warnings, backend, connect, route } = await createFixture(resources, { maxConnections: 1 })
  route([await backend(echoAtEnd('web'))])
  const first = await connect()
  await until(() => proxy.status().openConnections === 1)
  assert.equal(await endOfNew(connect()), 'ECONNRESET')
  assert.match(warnings[0]?.reason ?? '', /limit of 1 open connections/)
  assert.equal(await exchange(first, 'hello'), 'web: hello')
  await until(() => proxy.status().openConnections === 0)
  assert.equal(await exchange(await connect(), 'again'), 'web: again')
})

test('new routes do not touch open connections', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, connect, route } = await createFixture(resources)
  route([await backend(echoAtEnd('old'))])
  const open = await connect()
  await until(() => proxy.status().openConnections === 1)
  route([await backend(echoAtEnd('new'))])
  assert.equal(await exchange(await connect(), ''), 'new: ')
  assert.equal(await exchange(open, 'still here'), 'old: still here')
})

test('draining refuses new connections and lets open ones finish', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, connect, route } = await createFixture(resources)
  route([await backend(echoAtEnd('web'))])
  const client = await connect()
  await until(() => proxy.status().openConnections === 1)
  const drained = proxy.drain(AbortSignal.timeout(5_000))
  await assert.rejects(connect(), /ECONNREFUSED/)
  assert.equal(await exchange(client, 'last words'), 'web: last words')
  await drained
  assert.equal(proxy.status().openConnections, 0)
})

test('disposal after a drain that ran out of time resets what is left', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, connect, route } = await createFixture(resources)
  route([await backend(() => {})])
  const client = await connect()
  await until(() => proxy.status().openConnections === 1)
  await proxy.drain(AbortSignal.timeout(10))
  assert.equal(proxy.status().openConnections, 1)
  const ended = endOf(client)
  await proxy[Symbol.asyncDispose]()
  assert.equal(await ended, 'ECONNRESET')
})

test('disposal ends carried and dialling connections and leaves no socket or timer behind', async () => {
  const resources = (name: RegExp) => process.getActiveResourcesInfo().filter((resource) => name.test(resource)).length
  await until(() => resources(/TCP/) === 0)
  const timersBefore = resources(/Timeout/)
  {
    await using owned = new AsyncDisposableStack()
    const silent: Backend = { address: '127.0.0.1', port: 1 }
    const { proxy, backend, connect, route } = await createFixture(owned, {
      dialer: dialerThatHangsOn(silent),
      dialTimeoutMs: 60_000,
    })
    route([await backend(echoAtEnd('web')), silent])
    const clients = [await connect(), await connect(), await connect()]
    await until(() => proxy.status().openConnections === 3)
    const ends = Promise.all(clients.map(endOf))
    await proxy[Symbol.asyncDispose]()
    assert.deepEqual(await ends, ['ECONNRESET', 'ECONNRESET', 'ECONNRESET'])
  }
  await until(() => resources(/TCP/) === 0)
  assert.equal(resources(/Timeout/), timersBefore)
})

test('the limit of a rule holds for its ServicePort alone', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, warnings, backend, connect } = await createFixture(resources)
  const web = await backend(echoAtEnd('web'))
  const policy = { balancing: { kind: 'random' }, readsRequests: false, maxConnections: 1 } as const
  await proxy.setRoutes(
    placed(proxy, [
      [webAddress, { id: 'shop/web:80/tcp', protocol: 'tcp', preferred: [web], others: [], policy }],
      [apiAddress, { id: 'shop/api:80/tcp', protocol: 'tcp', preferred: [web], others: [] }],
    ]),
  )
  const first = await connect()
  await until(() => proxy.status().openConnections === 1)
  assert.equal(await endOfNew(connect()), 'ECONNRESET')
  assert.equal(warnings.at(-1)?.reason, 'the limit of 1 open connections, set by a DestinationRule, is reached')
  assert.equal(await exchange(await connect(apiAddress), 'hello'), 'web: hello')
  assert.equal(await exchange(first, 'hello'), 'web: hello')
  await until(() => proxy.status().openConnections === 0)
  assert.equal(await exchange(await connect(), 'again'), 'web: again')
})

test('a connection counts as open for least request until it ends', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, connect } = await createFixture(resources)
  const greet = (name: string) => (socket: TcpSocket) =>
    void socket
      .on('end', () => socket.end())
      .resume()
      .write(name)
  const backends = [await backend(greet('one')), await backend(greet('two'))]
  const policy = { balancing: { kind: 'least-request' }, readsRequests: false } as const
  await proxy.setRoutes(
    placed(proxy, [[webAddress, { id: 'shop/web:80/tcp', protocol: 'tcp', preferred: backends, others: [], policy }]]),
  )
  const open: { readonly client: ByteStream; readonly name: string }[] = []
  const openOne = async () => {
    const client = await connect()
    const [greeting] = await once(client, 'data')
    open.push({ client, name: String(greeting) })
  }
  // Each new connection goes to the backend with fewer of them.
  for (let count = 0; count < 6; count++) await openOne()
  const ones = () => open.filter(({ name }) => name === 'one')
  assert.equal(ones().length, 3)
  for (const { client } of ones()) client.end()
  await until(() => proxy.status().openConnections === 3)
  for (let count = 0; count < 3; count++) await openOne()
  assert.equal(ones().length, 6)
})

test('ServicePorts that share an address are told apart by the port, and all ports end together', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend } = await createFixture(resources)
  await proxy.listenAlso(0)
  assert.equal(new Set(proxy.ports).size, 2)
  const names = ['web', 'api']
  const backends = await Promise.all(names.map((name) => backend(echoAtEnd(name))))
  const routes = names.map((id, at) => {
    const place = { address: webAddress, port: proxy.ports[at] ?? 0 }
    return { id, protocol: 'tcp', place, preferred: backends.slice(at, at + 1), others: [] } as const
  })
  await proxy.setRoutes(new Map(routes.map((route) => [placeKeyOf(route.place), route])))
  const connectTo = ({ place }: (typeof routes)[number]) => direct.dial({ protocol: 'tcp', ...place }, never)
  for (const route of routes) assert.equal(await exchange(await connectTo(route), 'hello'), `${route.id}: hello`)
  await proxy.drain(AbortSignal.timeout(5_000))
  for (const route of routes) await assert.rejects(connectTo(route), DialError)
})
