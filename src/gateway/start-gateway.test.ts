/**
 * A whole gateway on loopback, with objects from a catalog and backends in this process:
 *
 *     client -> 127.0.0.1:port -> gateway -> backend on 127.0.0.1
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect, createServer as tlsServer } from 'node:tls'
import type { Gateway as GatewayObject, Secret, VirtualService } from '../model/index.ts'
import { type ByteStream, createDirectDialer, type Dialer, startTcpListener, type TcpSocket } from '../net/index.ts'
import { createMetrics, silentLogger } from '../observability/index.ts'
import { type Certificate, createCertificate } from '../tunnel/links/certificate.ts'
import { gatewayModuleSchema } from './config.ts'
import { until } from './requests/sample-site.ts'
import {
  sampleCatalog,
  sampleGateway,
  sampleRule,
  sampleServer,
  sampleService,
  sampleSlice,
  sampleTls,
  sampleVirtualService,
} from './samples.ts'
import { startGateway } from './start-gateway.ts'

const direct = createDirectDialer()
const never = new AbortController().signal

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  await using listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection() {} })
  return listener.port
}

/** A rule that answers with that text itself. */
function saying(text: string): VirtualService {
  const action = { kind: 'answer', status: 200, body: Buffer.from(text).toString('base64') } as const
  return sampleVirtualService({ http: [sampleRule('says', undefined, { action })] })
}

interface SiteOptions {
  readonly gateways: readonly GatewayObject[]
  readonly virtualServices?: readonly VirtualService[]
  readonly secrets?: readonly Secret[]
  readonly config?: object
  readonly onBackend?: (stream: TcpSocket) => void
}

/** Starts a gateway; Service `shop/web` leads to `onBackend`. */
async function startSite(resources: AsyncDisposableStack, options: SiteOptions) {
  const { gateways, virtualServices = [], secrets = [], config = {}, onBackend = () => {} } = options
  const backend = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: onBackend }))
  const dialer: Dialer = {
    dial: (_target, signal) => direct.dial({ protocol: 'tcp', address: '127.0.0.1', port: backend.port }, signal),
  }
  const catalog = sampleCatalog([sampleService('web')], [sampleSlice('web', '10.0.0.1')])
  catalog.replace('secrets', secrets)
  catalog.replace('virtualServices', virtualServices)
  catalog.replace('gateways', gateways)
  const lines: string[] = []
  const gateway = resources.use(
    startGateway({
      config: gatewayModuleSchema.parse({ includeIP: '127.0.0.1', drainTimeoutMs: 5_000, ...config }),
      nodeName: 'edge',
      catalog,
      dialer,
      addresses: () => [{ interface: 'lo', address: '127.0.0.1' }],
      writeLine: (line) => lines.push(line),
      logger: silentLogger,
      metrics: createMetrics(),
    }),
  )
  await until(() => gateway.status().listeners.every(({ problem }) => problem !== 'starting'))
  return { gateway, catalog, lines }
}

/** A connection, and what has come on it. */
async function connectTo(port: number, address = '127.0.0.1') {
  return watch(await direct.dial({ protocol: 'tcp', address, port }, never))
}

function watch(stream: ByteStream) {
  let text = ''
  let isClosed = false
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
  })
  stream.on('end', () => stream.end())
  stream.on('close', () => {
    isClosed = true
  })
  stream.on('error', () => {})
  return { stream, received: () => text, isClosed: () => isClosed }
}

const get = 'GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n'

/** What comes back for one request on a connection of its own. */
async function answerTo(port: number, address?: string, bytes = get): Promise<string> {
  const { stream, received, isClosed } = await connectTo(port, address)
  stream.write(bytes)
  await until(() => isClosed() || /\r\n\r\n[\s\S]+/.test(received()))
  stream.destroy()
  return received()
}

const httpOn = (port: number, fields: object = {}) => sampleGateway({ servers: [sampleServer({ port, ...fields })] })

/** A site with an idle connection, and one whose request `backend` has not answered yet. */
async function startBusySite(resources: AsyncDisposableStack, port: number) {
  const asked = Promise.withResolvers<TcpSocket>()
  const site = await startSite(resources, {
    gateways: [httpOn(port)],
    virtualServices: [sampleVirtualService({ http: [sampleRule('all')] })],
    onBackend: (stream) => stream.on('data', () => asked.resolve(stream)),
  })
  const busy = await connectTo(port)
  const idle = await connectTo(port)
  busy.stream.write(get)
  return { ...site, busy, idle, backend: await asked.promise }
}

suite('a gateway', () => {
  test('listens where its objects say, and tells of it', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { gateway } = await startSite(resources, { gateways: [httpOn(port)], virtualServices: [saying('hello')] })
    assert.match(await answerTo(port), /^HTTP\/1\.1 200 OK[\s\S]*hello$/)
    const { listeners, problems, ...counts } = gateway.status()
    assert.deepEqual(counts, { gateways: 1, virtualServices: 1, rules: 1 })
    assert.deepEqual(problems, [])
    assert.deepEqual(
      listeners.map(({ address, kind, gateways, problem }) => [address, kind, gateways, problem]),
      [[`127.0.0.1:${port}`, 'http', ['shop/front'], undefined]],
    )
  })

  test('tries a port again that is taken, while the others serve', async () => {
    await using resources = new AsyncDisposableStack()
    const [taken, free] = [await freePort(), await freePort()]
    const squatter = await startTcpListener({ host: '127.0.0.1', port: taken, onConnection() {} })
    const { gateway } = await startSite(resources, {
      gateways: [sampleGateway({ servers: [taken, free].map((port) => sampleServer({ port })) })],
      virtualServices: [saying('hello')],
    })
    const problemOf = (port: number) => {
      return gateway.status().listeners.find(({ address }) => address.endsWith(`:${port}`))?.problem
    }
    assert.match(problemOf(taken) ?? '', /in use/)
    assert.match(await answerTo(free), /hello$/)
    await squatter[Symbol.asyncDispose]()
    await until(() => problemOf(taken) === undefined)
    assert.match(await answerTo(taken), /hello$/)
  })

  test('serves the next request of a connection by objects that have changed', async () => {
    await using resources = new AsyncDisposableStack()
    const [port, other] = [await freePort(), await freePort()]
    const { catalog } = await startSite(resources, { gateways: [httpOn(port)], virtualServices: [saying('before')] })
    const { stream, received } = await connectTo(port)
    stream.write(get)
    await until(() => received().endsWith('before'))
    catalog.replace('gateways', [sampleGateway({ servers: [port, other].map((at) => sampleServer({ port: at })) })])
    catalog.replace('virtualServices', [saying('after')])
    stream.write(get)
    await until(() => received().endsWith('after'))
    catalog.replace('gateways', [httpOn(port)])
    stream.write(get)
    await until(() => received().split('after').length === 3)
  })

  test('frees the port of a listener that is not wanted any more, and finishes what is under way there', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { catalog, backend, busy, idle } = await startBusySite(resources, port)
    catalog.replace('gateways', [])
    await until(idle.isClosed)
    resources.use(await startTcpListener({ host: '127.0.0.1', port, onConnection() {} }))
    backend.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate')
    await until(busy.isClosed)
    assert.match(busy.received(), /^HTTP\/1\.1 200 OK[\s\S]*connection: close\r\n\r\nlate$/)
  })

  test('that drains takes no connection, ends the idle ones, and waits for the others', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { gateway, backend, busy, idle } = await startBusySite(resources, port)
    const drained = gateway.drain(never)
    await until(idle.isClosed)
    await assert.rejects(connectTo(port), /ECONNREFUSED/)
    assert.equal(busy.isClosed(), false)
    backend.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    await drained
    assert.match(busy.received(), /ok$/)
  })

  test('does not wait for ever, and cuts what is left when it ends', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { gateway } = await startSite(resources, {
      gateways: [httpOn(port)],
      virtualServices: [sampleVirtualService({ http: [sampleRule('all')] })],
    })
    const busy = await connectTo(port)
    busy.stream.write(get)
    await until(() => gateway.status().listeners[0]?.connections === 1)
    await gateway.drain(AbortSignal.timeout(50))
    await gateway[Symbol.asyncDispose]()
    await until(busy.isClosed)
    assert.equal(busy.received(), '')
  })

  test('takes no more connections than it may on one listener', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { gateway } = await startSite(resources, {
      gateways: [httpOn(port)],
      virtualServices: [saying('hello')],
      config: { limits: { maxConnections: 2 } },
    })
    const first = await connectTo(port)
    const second = await connectTo(port)
    await until(() => gateway.status().listeners[0]?.connections === 2)
    const third = await connectTo(port)
    await until(third.isClosed)
    first.stream.destroy()
    await until(() => gateway.status().listeners[0]?.connections === 1)
    assert.match(await answerTo(port), /hello$/)
    assert.equal(second.isClosed(), false)
  })

  test('serves a server with an address of its own beside one for all addresses', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const own = saying('own')
    const { gateway } = await startSite(resources, {
      gateways: [httpOn(port), sampleGateway({ name: 'own', servers: [sampleServer({ port, bind: '127.0.0.2' })] })],
      virtualServices: [saying('all'), { ...own, name: 'own', gateways: ['own'] }],
      config: { includeIP: '*' },
    })
    assert.match(await answerTo(port, '127.0.0.1'), /all$/)
    assert.match(await answerTo(port, '127.0.0.2'), /own$/)
    const [listener, ...others] = gateway.status().listeners
    assert.deepEqual([listener?.address, others], [`0.0.0.0:${port}`, []])
    assert.deepEqual(listener?.gateways.toSorted(), ['shop/front', 'shop/own'])
  })

  test('believes the PROXY header that comes first, and nothing without one', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { lines } = await startSite(resources, {
      gateways: [httpOn(port)],
      virtualServices: [saying('hello')],
      config: { proxyProtocol: true, accessLog: { mode: 'on' } },
    })
    assert.match(await answerTo(port, '127.0.0.1', `PROXY TCP4 192.0.2.9 192.0.2.1 4444 80\r\n${get}`), /hello$/)
    assert.equal(JSON.parse(lines[0] ?? '').client, '192.0.2.9')
    assert.equal(await answerTo(port), '')
  })
})

suite('connections of bytes', () => {
  const tcpTo = (...rules: VirtualService['tcp']) => sampleVirtualService({ tcp: rules })
  const toWeb = { destinations: [{ host: 'web', port: 80, weight: 1 }] }

  test('are carried to a backend, and counted in the log', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { lines } = await startSite(resources, {
      gateways: [httpOn(port, { protocol: 'tcp' })],
      virtualServices: [tcpTo({ match: [{ port: port + 1, gateways: [] }], destinations: [] }, toWeb)],
      config: { accessLog: { mode: 'on' } },
      onBackend: (stream) => stream.pipe(stream),
    })
    const { stream, received, isClosed } = await connectTo(port)
    stream.write('hello')
    await until(() => received() === 'hello')
    stream.end()
    await until(isClosed)
    await until(() => lines.length === 1)
    const { route, bytesIn, bytesOut, backend } = JSON.parse(lines[0] ?? '')
    assert.deepEqual([route, bytesIn, bytesOut, backend], ['shop/web/tcp#1', 5, 5, 'edge/10.0.0.1:8080'])
  })

  test('are closed without a word where no rule takes them', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    await startSite(resources, { gateways: [httpOn(port, { protocol: 'tcp' })] })
    const { isClosed, received } = await connectTo(port)
    await until(isClosed)
    assert.equal(received(), '')
  })
})

/** A Secret `shop/NAME` with that certificate. */
function secretOf(name: string, { cert, key }: Certificate, more: Readonly<Record<string, string>> = {}): Secret {
  const texts = Object.entries({ 'tls.crt': cert, 'tls.key': key, ...more })
  const data = Object.fromEntries(texts.map(([entry, text]) => [entry, Buffer.from(text).toString('base64')]))
  return { namespace: 'shop', name, data }
}

const httpsOn = (port: number, credentialName = 'cert', fields: object = {}, server: object = {}) => {
  return sampleServer({ port, protocol: 'https', tls: sampleTls(credentialName, fields), ...server })
}

/** Resolves once the handshake is done and the gateway has served a request, which TLS 1.3 may refuse later. */
async function handshake(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = tlsConnect({
    port,
    host: '127.0.0.1',
    servername: 'shop.test',
    rejectUnauthorized: false,
    ...options,
  })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  if (socket.alpnProtocol === 'h2') return socket
  socket.write(get)
  await Promise.race([once(socket, 'data'), once(socket, 'close').then(() => Promise.reject(new Error('closed')))])
  return socket
}

suite('TLS', () => {
  test('ends with the certificate of the name, and is refused for other names', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const [one, two] = [createCertificate(), createCertificate()]
    const servers = [
      httpsOn(port, 'one', {}, { hosts: [{ namespace: '*', host: 'one.test' }] }),
      httpsOn(port, 'two', {}, { hosts: [{ namespace: '*', host: '*.two.test' }] }),
    ]
    await startSite(resources, {
      gateways: [sampleGateway({ servers })],
      virtualServices: [saying('hello')],
      secrets: [secretOf('one', one), secretOf('two', two)],
    })
    for (const [servername, { cert }] of [
      ['one.test', one],
      ['a.two.test', two],
    ] as const) {
      const socket = await handshake(port, { servername })
      assert.equal(socket.getPeerX509Certificate()?.toString(), cert)
      socket.destroy()
    }
    for (const servername of ['three.test', '']) {
      await assert.rejects(handshake(port, { servername }), /unrecognized name/i)
    }
  })

  test('takes a changed Secret for the next handshake, and keeps the last good one', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const [first, second] = [createCertificate(), createCertificate()]
    const { gateway, catalog } = await startSite(resources, {
      gateways: [sampleGateway({ servers: [httpsOn(port)] })],
      virtualServices: [saying('hello')],
      secrets: [secretOf('cert', first)],
    })
    const standing = await handshake(port)
    const certificateNow = async () => {
      const socket = await handshake(port)
      const certificate = socket.getPeerX509Certificate()?.toString()
      socket.destroy()
      return certificate
    }
    assert.equal(await certificateNow(), first.cert)
    catalog.replace('secrets', [secretOf('cert', second)])
    assert.equal(await certificateNow(), second.cert)
    catalog.replace('secrets', [])
    assert.equal(await certificateNow(), second.cert)
    assert.match(
      gateway
        .status()
        .problems.map(({ message }) => message)
        .join(),
      /there is no Secret shop\/cert/,
    )
    catalog.replace('secrets', [secretOf('cert', { cert: 'no', key: 'pem' })])
    assert.equal(await certificateNow(), second.cert)
    assert.match(
      gateway
        .status()
        .problems.map(({ message }) => message)
        .join(),
      /^Secret shop\/cert: /,
    )
    standing.write(get)
    const [answer] = await once(standing, 'data')
    assert.match(String(answer), /hello$/)
    standing.destroy()
  })

  const client = createCertificate()
  const stranger = createCertificate()
  const withClient = { cert: client.cert, key: client.key }
  const asStranger = { cert: stranger.cert, key: stranger.key }
  const cases: readonly (readonly [string, object, Readonly<Record<string, string>>, ConnectionOptions, boolean])[] = [
    ['SIMPLE asks nobody', { clientCertificate: 'none' }, { 'ca.crt': client.cert }, {}, true],
    ['MUTUAL takes known clients', { clientCertificate: 'required' }, { 'ca.crt': client.cert }, withClient, true],
    ['MUTUAL takes nobody else', { clientCertificate: 'required' }, { 'ca.crt': client.cert }, asStranger, false],
    ['MUTUAL takes nobody without one', { clientCertificate: 'required' }, { 'ca.crt': client.cert }, {}, false],
    ['MUTUAL without an authority takes nobody', { clientCertificate: 'required' }, {}, withClient, false],
    [
      'OPTIONAL_MUTUAL takes known clients',
      { clientCertificate: 'optional' },
      { cacert: client.cert },
      withClient,
      true,
    ],
    ['OPTIONAL_MUTUAL takes clients without one', { clientCertificate: 'optional' }, { cacert: client.cert }, {}, true],
    [
      'OPTIONAL_MUTUAL takes no wrong one',
      { clientCertificate: 'optional' },
      { cacert: client.cert },
      asStranger,
      false,
    ],
    ['no mode with a CA is MUTUAL', { clientCertificate: 'as-secret' }, { 'ca.crt': client.cert }, {}, false],
    ['no mode without a CA is SIMPLE', { clientCertificate: 'as-secret' }, {}, asStranger, true],
    [
      'names that nobody has keep everybody out',
      { clientCertificate: 'required', subjectAltNames: ['a.test'] },
      { 'ca.crt': client.cert },
      withClient,
      false,
    ],
    ['the usual versions begin at 1.2', {}, {}, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }, true],
    ['the usual versions end at 1.3', {}, {}, { minVersion: 'TLSv1.3' }, true],
    ['a higher least version is kept', { minVersion: 'TLSv1.3' }, {}, { maxVersion: 'TLSv1.2' }, false],
    ['a lower most version is kept', { maxVersion: 'TLSv1.2' }, {}, { minVersion: 'TLSv1.3' }, false],
  ]
  for (const [name, tls, more, options, isServed] of cases) {
    test(name, async () => {
      await using resources = new AsyncDisposableStack()
      const port = await freePort()
      await startSite(resources, {
        gateways: [sampleGateway({ servers: [httpsOn(port, 'cert', tls)] })],
        virtualServices: [saying('hello')],
        secrets: [secretOf('cert', createCertificate(), more)],
      })
      const attempt = handshake(port, options)
      if (isServed) (await attempt).destroy()
      else await assert.rejects(attempt)
    })
  }

  test('offers HTTP/2 to those who can', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    await startSite(resources, {
      gateways: [sampleGateway({ servers: [httpsOn(port)] })],
      virtualServices: [saying('hello')],
      secrets: [secretOf('cert', createCertificate())],
    })
    for (const [offered, chosen] of [
      [['h2', 'http/1.1'], 'h2'],
      [['http/1.1'], 'http/1.1'],
      [undefined, false],
    ] as const) {
      const socket = await handshake(port, offered === undefined ? {} : { ALPNProtocols: [...offered] })
      assert.equal(socket.alpnProtocol, chosen)
      socket.destroy()
    }
  })

  test('answers a client that has ended its own direction, as many do after their request', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const asked = Promise.withResolvers<TcpSocket>()
    await startSite(resources, {
      gateways: [sampleGateway({ servers: [httpsOn(port)] })],
      virtualServices: [sampleVirtualService({ http: [sampleRule('all')] })],
      secrets: [secretOf('cert', createCertificate())],
      onBackend: (stream) => stream.on('data', () => asked.resolve(stream)),
    })
    const plain = await direct.dial({ protocol: 'tcp', address: '127.0.0.1', port }, never)
    const socket = tlsConnect({ socket: plain, rejectUnauthorized: false })
    const { received, isClosed } = watch(socket)
    await once(socket, 'secureConnect')
    const finished = once(socket, 'finish')
    socket.end(get)
    const backend = await asked.promise
    await finished
    // What the gateway makes of the end of the client is done before the backend's answer can come.
    for (let turns = 0; turns < 20; turns++) await turn()
    backend.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate')
    await until(() => isClosed())
    assert.match(received(), /^HTTP\/1\.1 200 OK[\s\S]*late$/)
  })

  test('passes by name to whoever has the certificate', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const certificate = createCertificate()
    const server = tlsServer({ ...certificate }, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nbackend'))
    const tls = [
      {
        match: [{ sniHosts: ['*.pass.test'], gateways: [] }],
        destinations: [{ host: 'web', port: 80, weight: 1 }],
      },
    ]
    await startSite(resources, {
      gateways: [httpOn(port, { protocol: 'tls', tls: { mode: 'passthrough' } })],
      virtualServices: [sampleVirtualService({ tls })],
      onBackend: (stream) => void server.emit('connection', stream),
    })
    const socket = await handshake(port, { servername: 'a.pass.test' })
    assert.equal(socket.getPeerX509Certificate()?.toString(), certificate.cert)
    await assert.rejects(handshake(port, { servername: 'b.test' }))
  })

  test('and plain HTTP tell each other apart', async () => {
    await using resources = new AsyncDisposableStack()
    const [encrypted, plain] = [await freePort(), await freePort()]
    await startSite(resources, {
      gateways: [sampleGateway({ servers: [httpsOn(encrypted), sampleServer({ port: plain })] })],
      virtualServices: [saying('hello')],
      secrets: [secretOf('cert', createCertificate())],
    })
    assert.match(await answerTo(encrypted), /^HTTP\/1\.1 400 [\s\S]*this port speaks TLS; use https/)
    await assert.rejects(handshake(plain))
  })

  test('leaves nothing of connections that are turned away, whether or not their clients go', async () => {
    await using resources = new AsyncDisposableStack()
    const port = await freePort()
    const { gateway } = await startSite(resources, {
      gateways: [
        sampleGateway({ servers: [httpsOn(port, 'cert', {}, { hosts: [{ namespace: '*', host: 'one.test' }] })] }),
      ],
      virtualServices: [saying('hello')],
      secrets: [secretOf('cert', createCertificate())],
    })
    for (const length of [1, 10_000]) await answerTo(port, undefined, `${get}${'x'.repeat(length)}`)
    await assert.rejects(handshake(port, { servername: 'two.test' }), /unrecognized name/i)
    const staying = await direct.dial({ protocol: 'tcp', address: '127.0.0.1', port }, never)
    staying.on('error', () => {}).resume()
    staying.write(get)
    await until(() => gateway.status().listeners[0]?.connections === 0)
    staying.destroy()
  })
})
