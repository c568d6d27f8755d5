/**
 * An agent whose site lets nothing out but an HTTP proxy, and a server with a second port:
 *
 *     edge-a ── proxy ──┬── server ──┬── edge-b ── TCP target
 *                     first      second port
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, before, test } from 'node:test'
import { createConnectProxy, type ProxyRules } from '../lab/servers/connect-proxy.ts'
import {
  dial,
  eventually,
  isServerReady,
  knows,
  pathTo,
  startTcpServer,
  startTestAgent,
  startTestServer,
  type TestAgent,
  TestFolder,
  type TestServer,
} from './tunnel-mesh.ts'

const running = new AsyncDisposableStack()
let folder: TestFolder
let server: TestServer
let secondPort: number
let b: TestAgent

before(async () => {
  folder = running.use(await TestFolder.create())
  secondPort = await freePort()
  server = running.use(await startTestServer(folder, { config: { morePorts: [secondPort] } }))
  b = running.use(await startTestAgent(folder, 'edge-b', server.port))
})
after(() => running.disposeAsync())

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  assert.ok(typeof address === 'object' && address !== null)
  return address.port
}

async function startProxy(rules: ProxyRules = {}) {
  const proxy = createConnectProxy(rules).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const address = proxy.address()
  assert.ok(typeof address === 'object' && address !== null)
  const opened: string[] = []
  proxy.on('tunnel', (target: string) => opened.push(target))
  return {
    text: `127.0.0.1:${address.port}`,
    opened,
    async [Symbol.asyncDispose]() {
      proxy.close()
      proxy.closeAllConnections()
    },
  }
}

const firstErrorOf = ({ tunnel }: TestAgent) => tunnel.status().servers[0]?.lastError ?? ''

test('whatever goes to the server goes through the proxy, and flows are relayed', async () => {
  await using proxy = await startProxy({ credentials: 'site:p@ss', allowedPorts: [secondPort] })
  const config = { proxy: `http://site:p%40ss@${proxy.text}` }
  await using a = await startTestAgent(folder, 'edge-a', secondPort, { config })
  await eventually('it is known', () => isServerReady(a) && knows(a, 'edge-b'))
  await using target = await startTcpServer((socket) => void socket.end('hello'))
  b.serve('10.1.1.1', target.port)
  for (let flow = 0; flow < 3; flow++) {
    const stream = await dial(a, 'edge-b', target.port)
    assert.equal(String((await once(stream, 'data'))[0]), 'hello')
    stream.destroy()
  }
  assert.equal(pathTo(a, 'edge-b'), 'relayed')
  await eventually('links stand, too', () => (a.tunnel.status().peers[0]?.links?.count ?? 0) > 0)
  const secondTarget = `127.0.0.1:${secondPort}`
  assert.deepEqual([...new Set(proxy.opened)], [secondTarget])
  assert.ok(proxy.opened.length >= 2, 'the control connection and at least one link')
})

test('a proxy that wants credentials is told of with a remedy, and no log line has a password', async () => {
  await using proxy = await startProxy({ credentials: 'site:right' })
  const config = { proxy: `http://site:secret@${proxy.text}` }
  await using a = await startTestAgent(folder, 'edge-c', server.port, { config })
  await eventually('it failed', () => firstErrorOf(a) !== '')
  assert.equal(firstErrorOf(a), `the proxy ${proxy.text} does not accept our user and password (407)`)
  const line = a.log.find(({ message }) => message === 'server not connected')
  assert.equal(line?.fields['remedy'], 'correct them in edgeTunnel.proxy; write special characters as %XX')
  assert.doesNotMatch(JSON.stringify(a.log), /secret/)
})

test('a port that the proxy does not allow is told of', async () => {
  await using proxy = await startProxy({ allowedPorts: [443] })
  await using a = await startTestAgent(folder, 'edge-d', server.port, { config: { proxy: `http://${proxy.text}` } })
  await eventually('it failed', () => firstErrorOf(a) !== '')
  const expected = `the proxy ${proxy.text} refuses to connect to 127.0.0.1:${server.port} (403 Forbidden)`
  assert.equal(firstErrorOf(a), expected)
})

test('the environment counts only where the configuration says so', async () => {
  await using proxy = await startProxy()
  const env = { HTTPS_PROXY: `http://${proxy.text}`, NO_PROXY: `127.0.0.1:${secondPort}` }
  await using a = await startTestAgent(folder, 'edge-e', server.port, { env })
  await eventually('it stands', () => isServerReady(a))
  assert.deepEqual(proxy.opened, [])
  const config = { proxy: 'environment' }
  await using excluded = await startTestAgent(folder, 'edge-f', secondPort, { env, config })
  await eventually('it stands', () => isServerReady(excluded))
  assert.deepEqual(proxy.opened, [])
  await using proxied = await startTestAgent(folder, 'edge-g', server.port, { env, config })
  await eventually('it stands', () => isServerReady(proxied))
  assert.deepEqual(proxy.opened, [`127.0.0.1:${server.port}`])
})

test('two ports of a server are one link; the other port stands in when the first is lost', async () => {
  await using proxy = await startProxy()
  const servers = [`127.0.0.1:${server.port}`, `127.0.0.1:${secondPort}`]
  await using a = await startTestAgent(folder, 'edge-h', server.port, {
    config: { servers, proxy: `http://${proxy.text}` },
  })
  const states = () => a.tunnel.status().servers.map(({ connected }) => connected)
  const other = () => a.tunnel.status().servers.find(({ connected }) => !connected)
  await eventually('one stands, and the other is known', () => {
    return states().includes(true) && other()?.lastError?.startsWith('the same server as') === true
  })
  const dials = proxy.opened.length
  await a.tunnel.reload({ servers: [other()?.address ?? ''], relayNodes: [] })
  await eventually('the other one stands', () => states().join() === 'true')
  assert.equal(proxy.opened.length, dials + 1)
})
