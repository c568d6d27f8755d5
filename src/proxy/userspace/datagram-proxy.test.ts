/**
 * Datagrams over loopback; 127.0.0.2 and 127.0.0.3 play synthetic addresses.
 *
 *     client -> 127.0.0.2:port (shop/dns) -> session of that client -> backends on 127.0.0.1, or a double of the tunnel
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createBalancer } from '../../loadbalancer/index.ts'
import type { Backend } from '../../model/index.ts'
import {
  createDirectDatagramDialer,
  createNodeAwareDatagramDialer,
  type DatagramChannel,
  type DatagramDialer,
  DialError,
  openDatagramSocket,
} from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { placeKeyOf } from '../synthetic-addresses.ts'
import { createDatagramProxy, type DatagramProxyOptions } from './datagram-proxy.ts'
import type { BalancedRoute, DatagramRoute } from './route-table.ts'

const address = '127.0.0.2'

/** A route to these backends, in turn. */
function routeTo(backends: readonly Backend[], id = 'shop/dns:53/udp'): BalancedRoute {
  const policy = { balancing: { kind: 'round-robin' }, readsRequests: false } as const
  const balancer = createBalancer(policy, { random: () => 0, nowMs: () => 0 })
  balancer.setBackends(backends, [])
  return { id, protocol: 'udp', balancer, policy, openConnections: 0 }
}

/** Routes by address, at one port. */
function placed(port: number, routes: readonly (readonly [string, BalancedRoute])[]): Map<string, DatagramRoute> {
  const places = routes.map(([at, route]) => ({ place: { address: at, port }, route }))
  return new Map(places.map((one) => [placeKeyOf(one.place), one]))
}

async function freePort(): Promise<number> {
  await using socket = await openDatagramSocket({ address, port: 0, onMessage() {}, onError() {} })
  return socket.port
}

async function createFixture(resources: AsyncDisposableStack, options: Partial<DatagramProxyOptions> = {}) {
  const clock = { nowMs: 0 }
  const failures: string[] = []
  const errors: unknown[] = []
  const port = await freePort()
  const proxy = resources.use(
    createDatagramProxy({
      dialer: createDirectDatagramDialer(),
      dialTimeoutMs: 2_000,
      idleTimeoutMs: 30_000,
      maxSessions: 100,
      nowMs: () => clock.nowMs,
      logger: { ...silentLogger, error: (fields) => void errors.push(fields) },
      onFailure: ({ error }) => void failures.push(error instanceof DialError ? error.failure : String(error)),
      ...options,
    }),
  )
  /** A backend that answers `name:message`. */
  const backend = async (name: string) => {
    const seen: { readonly message: string; readonly port: number }[] = []
    const socket = resources.use(
      await openDatagramSocket({
        address: '127.0.0.1',
        port: 0,
        onError() {},
        onMessage(message, from) {
          seen.push({ message: String(message), port: from.port })
          socket.send(Buffer.from(`${name}:${message}`), from)
        },
      }),
    )
    return { address: '127.0.0.1', port: socket.port, seen }
  }
  const client = async () => {
    const answers: string[] = []
    const socket = resources.use(
      await openDatagramSocket({
        address: '127.0.0.1',
        port: 0,
        onError() {},
        onMessage: (message) => void answers.push(String(message)),
      }),
    )
    const send = (text: string, to = address) => socket.send(Buffer.from(text), { address: to, port })
    /** Sends once, and waits for that one answer. */
    const ask = async (text: string, to = address) => {
      const before = answers.length
      send(text, to)
      await until(() => answers.length > before)
      return answers.at(-1)
    }
    return { answers, send, ask }
  }
  return { proxy, clock, failures, errors, port, backend, client }
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'the condition never came true')
    await delay(2)
  }
}

/** A backend without anybody: its port was free a moment ago. */
async function refusing(): Promise<Backend> {
  await using socket = await openDatagramSocket({ address: '127.0.0.1', port: 0, onMessage() {}, onError() {} })
  return { address: '127.0.0.1', port: socket.port }
}

test('the address names the ServicePort, and each client keeps its backend and its source port', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, client, port } = await createFixture(resources)
  const [one, two, other] = [await backend('one'), await backend('two'), await backend('other')]
  await proxy.setRoutes(
    placed(port, [
      [address, routeTo([one, two])],
      ['127.0.0.3', routeTo([other], 'shop/other:53/udp')],
    ]),
  )
  const [first, second] = [await client(), await client()]
  for (let round = 0; round < 3; round++) {
    assert.equal(await first.ask(`a${round}`), `one:a${round}`)
    assert.equal(await second.ask(`b${round}`), `two:b${round}`)
  }
  assert.equal(await first.ask('c', '127.0.0.3'), 'other:c')
  assert.equal(new Set(one.seen.map((datagram) => datagram.port)).size, 1)
  assert.equal(proxy.sessions, 3)
})

test('borders of datagrams are kept, from empty ones to the longest (D-8)', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, client, port } = await createFixture(resources)
  const web = await backend('')
  await proxy.setRoutes(placed(port, [[address, routeTo([web])]]))
  const { ask } = await client()
  for (const length of [0, 1, 1_472, 5_000, 65_000]) assert.equal((await ask('x'.repeat(length)))?.length, length + 1)
})

test('a backend that is not there ends nothing: the next one gets what was sent', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, failures, backend, client, port } = await createFixture(resources)
  const web = await backend('web')
  await proxy.setRoutes(placed(port, [[address, routeTo([await refusing(), await refusing(), web])]]))
  const { ask } = await client()
  assert.equal(await ask('hello'), 'web:hello')
  assert.deepEqual(failures, ['refused', 'refused'])
  // What failed is remembered: the next client meets the one that works at once.
  const second = await client()
  assert.equal(await second.ask('again'), 'web:again')
  assert.equal(failures.length, 2)
})

test('a backend that stops listening ends the session, and the next datagram begins another one elsewhere', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, failures, backend, client, port } = await createFixture(resources)
  const other = await backend('other')
  const stopping = await openDatagramSocket({
    address: '127.0.0.1',
    port: 0,
    onError() {},
    onMessage: (_message, from) => stopping.send(Buffer.from('stopping'), from),
  })
  await proxy.setRoutes(placed(port, [[address, routeTo([{ address: '127.0.0.1', port: stopping.port }, other])]]))
  const { ask, send } = await client()
  assert.equal(await ask('hello'), 'stopping')
  await stopping[Symbol.asyncDispose]()
  send('lost')
  await until(() => failures.length === 1 && proxy.sessions === 0)
  assert.equal(await ask('again'), 'other:again')
})

test('a session without datagrams is over after its idle time, and one that is used is not (D-8)', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, clock, backend, client, port } = await createFixture(resources, { idleTimeoutMs: 400 })
  const web = await backend('web')
  await proxy.setRoutes(placed(port, [[address, routeTo([web])]]))
  const [quiet, busy] = [await client(), await client()]
  await quiet.ask('a')
  await busy.ask('b')
  clock.nowMs = 399
  await busy.ask('c')
  clock.nowMs = 400
  await until(() => proxy.sessions === 1)
  assert.equal(await quiet.ask('d'), 'web:d')
  assert.equal(new Set(web.seen.map(({ port }) => port)).size, 3)
})

test('the table of sessions is bounded: the one that was quiet longest gives way', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, client, port } = await createFixture(resources, { maxSessions: 2 })
  const web = await backend('web')
  await proxy.setRoutes(placed(port, [[address, routeTo([web])]]))
  const clients = [await client(), await client(), await client()] as const
  await clients[0].ask('a')
  await clients[1].ask('b')
  await clients[0].ask('c')
  await clients[2].ask('d')
  assert.equal(proxy.sessions, 2)
  const portOf = (message: string) => web.seen.find((datagram) => datagram.message === message)?.port
  await clients[0].ask('e')
  assert.equal(portOf('e'), portOf('a'))
  await clients[1].ask('f')
  assert.notEqual(portOf('f'), portOf('b'))
})

/** A double of the tunnel: each channel answers `node message`, and can be cut. */
function createTunnelDouble() {
  const cuts: ((error: Error | undefined) => void)[] = []
  const dialled: string[] = []
  const dialer: DatagramDialer = {
    async dialDatagrams({ nodeName, address: to }, signal): Promise<DatagramChannel> {
      signal.throwIfAborted()
      dialled.push(`${nodeName} ${to}`)
      if (nodeName === 'lost') throw new DialError('no-path', 'no path to lost')
      const closed = Promise.withResolvers<Error | undefined>()
      let listener: (message: Buffer) => void = () => {}
      cuts.push(closed.resolve)
      return {
        closed: closed.promise,
        send: (message) => listener(Buffer.from(`${nodeName} ${Buffer.from(message)}`)),
        onMessage: (next) => {
          listener = next
        },
        [Symbol.dispose]: () => closed.resolve(undefined),
      }
    },
  }
  return { dialer, dialled, cuts }
}

test('backends on other nodes are dialled through the tunnel, those on this one are not', async () => {
  await using resources = new AsyncDisposableStack()
  const tunnel = createTunnelDouble()
  const dialer = createNodeAwareDatagramDialer('here', createDirectDatagramDialer(), tunnel.dialer)
  const { proxy, failures, backend, client, port } = await createFixture(resources, { dialer })
  const local = { ...(await backend('local')), nodeName: 'here' }
  const [lost, far] = ['lost', 'far'].map((nodeName) => ({ nodeName, address: '10.244.2.2', port: 53 }))
  await proxy.setRoutes(placed(port, [[address, routeTo([local, lost, far] as Backend[])]]))
  const [first, second] = [await client(), await client()]
  assert.equal(await first.ask('a'), 'local:a')
  assert.equal(await second.ask('b'), 'far b')
  assert.deepEqual(tunnel.dialled, ['lost 10.244.2.2', 'far 10.244.2.2'])
  assert.deepEqual(failures, ['no-path'])
  // The tunnel loses the channel: the client's next datagram finds another way.
  tunnel.cuts[0]?.(new DialError('no-path', 'the link was lost'))
  await until(() => proxy.sessions === 1)
  assert.match(String(await second.ask('c')), /c$/)
})

test('while nothing can be reached datagrams are dropped and no session is left', async () => {
  await using resources = new AsyncDisposableStack()
  const forbidding: DatagramDialer = {
    dialDatagrams: () => Promise.reject(new DialError('forbidden', 'datagrams do not cross this tunnel')),
  }
  const { proxy, failures, client, port } = await createFixture(resources, { dialer: forbidding })
  await proxy.setRoutes(placed(port, [[address, routeTo([{ nodeName: 'far', address: '10.244.2.2', port: 53 }])]]))
  const { send, answers } = await client()
  send('a')
  await until(() => failures.length === 1 && proxy.sessions === 0)
  await proxy.setRoutes(placed(port, [[address, routeTo([])]]))
  send('b')
  await delay(20)
  assert.deepEqual([answers, proxy.sessions], [[], 0])
})

test('a ServicePort that leaves takes its socket and sessions along; one that stays keeps them', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, client, port } = await createFixture(resources)
  const web = await backend('web')
  const staying = routeTo([web])
  await proxy.setRoutes(
    placed(port, [
      [address, staying],
      ['127.0.0.3', routeTo([web], 'shop/other:53/udp')],
    ]),
  )
  const { ask } = await client()
  await ask('a')
  await ask('b', '127.0.0.3')
  await proxy.setRoutes(placed(port, [[address, staying]]))
  assert.equal(proxy.sessions, 1)
  await using _free = await openDatagramSocket({ address: '127.0.0.3', port, onMessage() {}, onError() {} })
  await ask('c')
  assert.equal(new Set(web.seen.filter(({ message }) => message !== 'b').map((datagram) => datagram.port)).size, 1)
})

test('a socket that cannot be bound is told of, and bound once it can be', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, client, port, errors } = await createFixture(resources)
  const web = await backend('web')
  const routes = placed(port, [[address, routeTo([web])]])
  const taken = await openDatagramSocket({ address, port, onMessage() {}, onError() {} })
  await proxy.setRoutes(routes)
  assert.equal(errors.length, 1)
  await taken[Symbol.asyncDispose]()
  await proxy.setRoutes(routes)
  const { ask } = await client()
  assert.equal(await ask('a'), 'web:a')
})

test('a socket that could not be bound is tried again by itself, and told of once', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, errors, backend, client, port } = await createFixture(resources, { idleTimeoutMs: 40 })
  const web = await backend('web')
  const inTheWay = await openDatagramSocket({ address, port, onMessage() {}, onError() {} })
  await proxy.setRoutes(placed(port, [[address, routeTo([web])]]))
  await delay(250)
  await inTheWay[Symbol.asyncDispose]()
  const { answers, send } = await client()
  await until(() => {
    send('hello')
    return answers.length > 0
  })
  assert.equal(answers[0], 'web:hello')
  assert.equal(errors.length, 1)
})

test('a client whose backend is none of the Service any more gets another one, also when it waits for no answer', async () => {
  await using resources = new AsyncDisposableStack()
  const { proxy, backend, client, port } = await createFixture(resources)
  const [gone, stays] = [await backend('gone'), await backend('stays')]
  const [moving, staying] = [routeTo([gone]), routeTo([stays], 'shop/other:53/udp')]
  const routes = [
    [address, moving],
    ['127.0.0.3', staying],
  ] as const
  await proxy.setRoutes(placed(port, routes))
  const { send, ask } = await client()
  send('first')
  await until(() => gone.seen.length === 1)
  await ask('kept', '127.0.0.3')
  moving.balancer.setBackends([stays], [])
  await proxy.setRoutes(placed(port, routes))
  assert.equal(proxy.sessions, 1)
  send('second')
  await until(() => stays.seen.some(({ message }) => message === 'second'))
  await ask('still', '127.0.0.3')
  const ports = stays.seen.filter(({ message }) => message !== 'second').map((datagram) => datagram.port)
  assert.equal(new Set(ports).size, 1)
})

test('datagrams that wait for a backend take no more room than the longest one', async () => {
  await using resources = new AsyncDisposableStack()
  const dialled = Promise.withResolvers<void>()
  const arrived: number[] = []
  const channel: DatagramChannel = {
    closed: new Promise(() => {}),
    send: (message) => void arrived.push(message.length),
    onMessage() {},
    [Symbol.dispose]() {},
  }
  const dialer: DatagramDialer = { dialDatagrams: () => dialled.promise.then(() => channel) }
  let heard = 0
  const nowMs = () => {
    heard += 1
    return 0
  }
  const { proxy, client, port } = await createFixture(resources, { dialer, nowMs })
  await proxy.setRoutes(placed(port, [[address, routeTo([{ address: '127.0.0.1', port: 53 }])]]))
  const { send } = await client()
  for (const length of [60_000, 1, 20_000]) {
    const before = heard
    send('x'.repeat(length))
    await until(() => heard > before)
  }
  dialled.resolve()
  await until(() => arrived.length > 1)
  assert.deepEqual(arrived, [60_000, 1])
})
