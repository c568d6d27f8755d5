import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { openDatagramSocket } from '../../net/index.ts'
import { createInternetGateway } from './internet-gateway.ts'

const never = new AbortController().signal
const request = { internalPort: 20006, externalPort: 20006, lifetimeSeconds: 3600 }
const serviceType = 'urn:schemas-upnp-org:service:WANIPConnection:1'

interface FakeSettings {
  /** The refusal of a call, by its external port and lease. */
  refuse?: (port: number, lease: string | undefined) => number | undefined
  /** Where it says that it describes itself, given the port of its HTTP server. */
  location?: (port: number) => string
  controlUrl?: string
  /** Searches that get lost. */
  deaf?: number
}

/** A router on 127.0.0.1 and the calls that it got: action, external port and lease. */
async function startRouter(resources: AsyncDisposableStack, settings: FakeSettings = {}) {
  const calls: string[] = []
  const scene = { settings, searches: 0, calls, searchPort: 0 }
  const http = createServer((incoming, response) => {
    if (incoming.method === 'GET') {
      const control = scene.settings.controlUrl ?? '/ctl'
      const service = `<serviceType>${serviceType}</serviceType><controlURL>${control}</controlURL>`
      response.end(`<root><device><service>${service}</service></device></root>`)
      return
    }
    if (incoming.url !== (scene.settings.controlUrl ?? '/ctl')) {
      response.writeHead(404).end()
      return
    }
    incoming.setEncoding('utf8')
    incoming.on('data', (xml: string) => {
      const fieldOf = (name: string) => new RegExp(`<${name}>(.*?)<`).exec(xml)?.[1]
      const [, action = ''] = /#(\w+)"$/.exec(String(incoming.headers['soapaction'])) ?? []
      const lease = fieldOf('NewLeaseDuration')
      calls.push([action, fieldOf('NewExternalPort'), lease].join(' ').trim())
      const refusal = scene.settings.refuse?.(Number(fieldOf('NewExternalPort')), lease)
      response.statusCode = refusal === undefined ? 200 : 500
      response.end(refusal === undefined ? '' : `<errorCode>${refusal}</errorCode>`)
    })
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  resources.defer(() => new Promise((resolve) => http.close(() => resolve())))
  const { port } = http.address() as AddressInfo
  const socket = resources.use(
    await openDatagramSocket({
      address: '127.0.0.1',
      port: 0,
      onMessage(message, from) {
        assert.match(String(message), /^M-SEARCH \* HTTP\/1\.1\r\n/)
        scene.searches += 1
        if (scene.searches <= (scene.settings.deaf ?? 0)) return
        const location = scene.settings.location?.(port) ?? `http://127.0.0.1:${port}/root.xml`
        const st = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1'
        socket.send(Buffer.from(`HTTP/1.1 200 OK\r\nST: ${st}\r\nLOCATION: ${location}\r\n\r\n`), from)
      },
      onError: (error) => assert.fail(error),
    }),
  )
  scene.searchPort = socket.port
  return scene
}

/** Nobody is in the group here. */
const searchGroup = '127.0.0.9'
const askerOf = ({ searchPort }: { searchPort: number }, searchEveryMs?: number) =>
  createInternetGateway('127.0.0.1', {
    ownAddress: '127.0.0.1',
    searchPort,
    searchGroup,
    ...(searchEveryMs !== undefined && { searchEveryMs }),
  })

test('a router is searched once, and then asked for the port, for more time and to take it back', async () => {
  await using resources = new AsyncDisposableStack()
  const scene = await startRouter(resources)
  const router = askerOf(scene)
  assert.deepEqual(await router.ask(request, never), { externalPort: 20006, lifetimeSeconds: 3600 })
  await router.ask(request, never)
  await router.ask({ ...request, lifetimeSeconds: 0 }, never)
  assert.equal(router.protocol, 'UPnP')
  assert.deepEqual(scene.calls, ['AddPortMapping 20006 3600', 'AddPortMapping 20006 3600', 'DeletePortMapping 20006'])
  assert.equal(scene.searches, 1)
})

test('a search that got lost is repeated', async () => {
  await using resources = new AsyncDisposableStack()
  const scene = await startRouter(resources, { deaf: 1 })
  assert.equal((await askerOf(scene, 250).ask(request, never)).externalPort, 20006)
  assert.equal(scene.searches, 2)
})

test('a port that is in use is passed over for others, a few times', async () => {
  await using resources = new AsyncDisposableStack()
  const scene = await startRouter(resources, { refuse: (port) => (port === 20006 ? 718 : undefined) })
  const router = askerOf(scene)
  const { externalPort } = await router.ask(request, never)
  assert.ok(externalPort !== 20006 && externalPort >= 1024 && externalPort < 65_536)
  scene.settings.refuse = () => 718
  await assert.rejects(router.ask(request, never), /the port is in use/)
  assert.equal(new Set(scene.calls).size, 4)
})

test('a router that knows no leases is asked without one from then on', async () => {
  await using resources = new AsyncDisposableStack()
  const scene = await startRouter(resources, { refuse: (_port, lease) => (lease === '0' ? undefined : 725) })
  const router = askerOf(scene)
  assert.equal((await router.ask(request, never)).lifetimeSeconds, 3600)
  await router.ask(request, never)
  assert.deepEqual(scene.calls, ['AddPortMapping 20006 3600', 'AddPortMapping 20006 0', 'AddPortMapping 20006 0'])
})

test('any other refusal is final, and says why', async () => {
  await using resources = new AsyncDisposableStack()
  const scene = await startRouter(resources, { refuse: () => 606 })
  await assert.rejects(askerOf(scene).ask(request, never), /refuses by UPnP: not authorised/)
  assert.equal(scene.calls.length, 1)
})

test('nobody is asked but the gateway itself, whatever it says', async () => {
  await using resources = new AsyncDisposableStack()
  const elsewhere = await startRouter(resources, { location: (port) => `http://127.0.0.2:${port}/root.xml` })
  await assert.rejects(askerOf(elsewhere).ask(request, never), /describes itself elsewhere/)
  const astray = await startRouter(resources, { controlUrl: 'http://192.0.2.1/ctl' })
  await assert.rejects(askerOf(astray).ask(request, never), /wants to be asked at http:\/\/192\.0\.2\.1\/ctl/)
  const scene = await startRouter(resources)
  const stranger = createInternetGateway('127.0.0.3', {
    ownAddress: '127.0.0.1',
    searchPort: scene.searchPort,
    searchGroup: '127.0.0.1',
    searchEveryMs: 250,
  })
  await assert.rejects(stranger.ask(request, never), { code: 'ETIMEDOUT' })
})

test('a router that answers nobody is given up after two searches, and at once with the signal', async () => {
  await using resources = new AsyncDisposableStack()
  const scene = await startRouter(resources, { deaf: 100 })
  const router = askerOf(scene, 250)
  await assert.rejects(router.ask(request, never), { code: 'ETIMEDOUT' })
  assert.equal(scene.searches, 2)
  const stop = new AbortController()
  const asking = router.ask(request, stop.signal)
  stop.abort(new Error('the node stops'))
  await assert.rejects(asking)
})

test('a router that has moved its control point is found again', async () => {
  await using resources = new AsyncDisposableStack()
  const scene = await startRouter(resources, { location: (port) => `http://127.0.0.1:${port}/a` })
  const router = askerOf(scene)
  scene.settings.controlUrl = 'http://127.0.0.1:1/old'
  await assert.rejects(router.ask(request, never), /ECONNREFUSED/)
  scene.settings.controlUrl = '/new'
  assert.equal((await router.ask(request, never)).externalPort, 20006)
  scene.settings.controlUrl = '/newer'
  await assert.rejects(router.ask(request, never), /refuses by UPnP: result 404/)
  assert.equal((await router.ask(request, never)).externalPort, 20006)
})

test('a router that listens to the group alone is found by it', async () => {
  await using resources = new AsyncDisposableStack()
  const { searchPort } = await startRouter(resources)
  // The gateway is the same; only its own address has nobody who listens for searches.
  const group = { ownAddress: '127.0.0.1', searchPort, searchGroup: '127.0.0.1' }
  const stranger = createInternetGateway('127.0.0.5', { ...group, searchEveryMs: 250 })
  await assert.rejects(stranger.ask(request, never), { code: 'ETIMEDOUT' })
  assert.equal((await createInternetGateway('127.0.0.1', group).ask(request, never)).externalPort, 20006)
})
