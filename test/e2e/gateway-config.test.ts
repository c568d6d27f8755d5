/**
 * What a gateway's own configuration says, against the real executable:
 *
 *     bytes as a load balancer sends them ──► edgemesh gateway (proxyProtocol, limits, labels, includeIP, ...) ──► backend
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, suite, test } from 'node:test'
import { stringify } from 'yaml'
import { createLab, edgemeshBinary, type Host, type Lab, type LabProcess } from '../lab/index.ts'
import {
  backendScript,
  clientScript,
  curl,
  gatewayConfig,
  kube,
  nodeProcess,
  serviceWith,
} from './support/gateway-site.ts'
import { eventually } from './support/site.ts'

let lab: Lab
let host: Host

const gatewayNamed = (name: string, port: number, selector: object) =>
  kube('networking.istio.io/v1beta1', 'Gateway', 'shop', name, {
    selector,
    servers: [{ port: { number: port, name: 'http', protocol: 'HTTP' }, hosts: ['*'] }],
  })

before(async () => {
  lab = await createLab({ cloud: ['edge'] })
  host = lab.node('edge')
  await nodeProcess(host, [backendScript, 'one', '9000']).waitForLine(/ready/, 10_000)
  const objects = [
    ...serviceWith('shop', 'web', [{ name: 'http', port: 80 }], [{ pod: 'one', base: 9000 }], host.name),
    gatewayNamed('front', 8080, { role: 'edge' }),
    gatewayNamed('both', 8081, { role: 'edge', zone: 'a' }),
    gatewayNamed('usual', 8082, { kubeedge: 'edgemesh-gateway' }),
    gatewayNamed('more', 8083, { role: 'edge', zone: 'b' }),
    kube('networking.istio.io/v1beta1', 'VirtualService', 'shop', 'web', {
      hosts: ['*'],
      gateways: ['front', 'both', 'usual', 'more'],
      http: [
        { match: [{ uri: { prefix: '/none' } }], route: [{ destination: { host: 'none' } }] },
        { route: [{ destination: { host: 'web' } }] },
      ],
    }),
  ]
  await lab.writeManifest('objects.yaml', objects.map((object) => stringify(object)).join('---\n'))
})
after(() => lab?.[Symbol.asyncDispose]())

async function startGateway(edgeGateway: object): Promise<LabProcess> {
  const gateway = host.spawn([edgemeshBinary(), 'gateway', '--config', await gatewayConfig(host, lab, edgeGateway)])
  await gateway.waitForLine(/"msg":"gateway ready"/, 20_000)
  await eventually(10_000, async () => assert.ok((await listeners()).includes('127.0.0.1:8080')))
  return gateway
}

async function listeners(): Promise<readonly string[]> {
  const config = join(host.dir, 'edgemesh-gateway.yaml')
  const { stdout } = await host.exec([edgemeshBinary(), 'status', 'gateway', '--config', config, '--json'])
  const { gateway } = JSON.parse(stdout || '{}')
  const all: readonly { readonly address: string; readonly problem?: string }[] = gateway?.listeners ?? []
  return all.filter(({ problem }) => problem === undefined).map(({ address }) => address)
}

/** What comes back for bytes, and whether the gateway ended the connection. */
async function send(bytes: string): Promise<{ readonly received: string; readonly isClosed: boolean }> {
  const { stdout, stderr } = await host.exec([process.execPath, clientScript, 'raw', '127.0.0.1', '8080', '8000'], {
    input: Buffer.from(bytes, 'latin1'),
    timeoutMs: 30_000,
  })
  assert.notEqual(stdout, '', stderr)
  return JSON.parse(stdout)
}

/** The fields that the backend saw of a request after these first bytes. */
async function seenAfter(first: string, ...fields: readonly string[]): Promise<Readonly<Record<string, string>>> {
  const { received } = await send(
    `${first}GET / HTTP/1.1\r\nHost: a.test\r\n${fields.map((field) => `${field}\r\n`).join('')}Connection: close\r\n\r\n`,
  )
  assert.match(received, /^HTTP\/1\.1 200 /)
  return JSON.parse(received.slice(received.indexOf('\r\n\r\n') + 4)).headers
}

const version2 = '\r\n\r\n\0\r\nQUIT\n'
const proxied = 'PROXY TCP4 203.0.113.9 192.0.2.1 4444 80\r\n'

suite('behind a load balancer', () => {
  let gateway: LabProcess
  before(async () => {
    gateway = await startGateway({
      proxyProtocol: true,
      forwardedHeader: true,
      labels: { role: 'edge', zone: 'a' },
      includeIP: '127.0.0.0/8, 192.0.2.77',
      accessLog: { mode: 'sampled', sampleRatio: 0 },
      limits: { headTimeoutMs: 400, bodyTimeoutMs: 400, maxConnections: 5 },
    })
  })
  after(async () => {
    await gateway?.stop()
  })

  test('the client is the one that the PROXY header names, in both versions', async () => {
    const four = `${version2}\x21\x11\0\x0c\xcb\0\x71\x0a\xc0\0\x02\x01\x11\x5c\0\x50`
    const six = `${version2}\x21\x21\0\x24\x20\x01\x0d\xb8${'\0'.repeat(11)}\x01${'\0'.repeat(16)}\x11\x5c\0\x50`
    const health = `${version2}\x20\0\0\0`
    for (const [header, address] of [
      [proxied, '203.0.113.9'],
      ['PROXY TCP6 2001:db8::1 ::1 4444 80\r\n', '2001:db8::1'],
      ['PROXY UNKNOWN\r\n', '127.0.0.1'],
      [four, '203.0.113.10'],
      [six, '2001:db8::1'],
      [health, '127.0.0.1'],
    ] as const) {
      assert.equal((await seenAfter(header))['x-forwarded-for'], address, JSON.stringify(header))
    }
  })

  test('a connection without a PROXY header is closed without a word', async () => {
    for (const bytes of ['GET / HTTP/1.1\r\nHost: a.test\r\n\r\n', 'PROXY TCP4 x y z\r\n', `${version2}\x11\x11\0\0`]) {
      assert.deepEqual(await send(bytes), { received: '', isClosed: true })
    }
  })

  test('backends are told in Forwarded as well, and clients are not believed', async () => {
    const headers = await seenAfter(proxied, 'Forwarded: for=1.2.3.4', 'X-Forwarded-For: 1.2.3.4', 'X-Real-IP: 1.2.3.4')
    assert.equal(headers['forwarded'], 'for=203.0.113.9;host="a.test";proto=http')
    assert.equal(headers['x-forwarded-for'], '203.0.113.9')
    assert.equal(headers['x-real-ip'], undefined)
    const { forwarded } = await seenAfter('PROXY TCP6 2001:db8::1 ::1 4444 80\r\n')
    assert.equal(forwarded, 'for="[2001:db8::1]";host="a.test";proto=http')
  })

  test('Gateways are served whose selector is part of the labels, on addresses of the network', async () => {
    assert.deepEqual((await listeners()).toSorted(), ['127.0.0.1:8080', '127.0.0.1:8081'])
  })

  test('a sampled log has every failure and its share of the others', async () => {
    await seenAfter(proxied)
    const asked = await send(`${proxied}GET /none HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n`)
    assert.match(asked.received, /^HTTP\/1\.1 503 /)
    const line = JSON.parse(await gateway.waitForLine(/"kind":"access"/, 5_000))
    assert.deepEqual([line.path, line.status, line.client], ['/none', 503, '203.0.113.9'])
  })

  test('slow clients are told that they are, before and after their head', async () => {
    const slowHead = await send(`${proxied}GET / HTTP/1.1\r\nHost: a.test\r\n`)
    assert.match(slowHead.received, /^HTTP\/1\.1 408 [\s\S]*the head of the request did not arrive in time\n$/)
    const slowBody = await send(`${proxied}POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\npart`)
    assert.match(slowBody.received, /^HTTP\/1\.1 408 [\s\S]*the body of the request did not arrive in time\n$/)
    assert.ok(slowHead.isClosed && slowBody.isClosed)
    assert.equal((await send('PROXY TCP4 203.')).received, '')
  })

  test('no more connections are taken than there may be, and more again when some are gone', async () => {
    const script = `
      const { connect } = require('node:net')
      const open = Array.from({ length: 8 }, () => connect(8080, '127.0.0.1').on('error', () => {}))
      const left = new Set(open)
      for (const socket of open) {
        socket.on('close', () => left.delete(socket)).resume()
        // An answer keeps the connection for the next request.
        socket.write('PROXY UNKNOWN\\r\\nGET / HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n')
      }
      setTimeout(() => { console.log('left ' + left.size); process.exit() }, 1500)`
    const { stdout } = await host.exec([process.execPath, '-e', script], { timeoutMs: 30_000 })
    assert.equal(stdout, 'left 5\n')
    await eventually(5_000, async () => {
      const { received } = await send(`${proxied}GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n`)
      assert.match(received, /^HTTP\/1\.1 200 /)
    })
  })
})

test('behind another proxy its word is kept and extended, and a log that is off says nothing', async () => {
  const gateway = await startGateway({
    trustForwardedHeaders: true,
    forwardedHeader: true,
    labels: { role: 'edge' },
    nic: 'lo',
    accessLog: { mode: 'off' },
  })
  const claimed = ['X-Forwarded-For: 203.0.113.9', 'X-Forwarded-Proto: https', 'Forwarded: for=203.0.113.9']
  const headers = await seenAfter('', ...claimed)
  assert.equal(headers['x-forwarded-for'], '203.0.113.9, 127.0.0.1')
  assert.equal(headers['x-forwarded-proto'], 'https')
  assert.equal(headers['forwarded'], 'for=203.0.113.9, for=127.0.0.1;host="a.test";proto=http')
  assert.equal((await curl(host, 'http://a.test:8080/none')).status, 503)
  await gateway.stop()
  assert.match(gateway.output(), /gateway stopping/)
  assert.doesNotMatch(gateway.output(), /"kind":"access"/)
})
