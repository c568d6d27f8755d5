/**
 * The gateway while its objects change: no request is lost, and many routes are no burden.
 *
 *     gateway-client.ts steady ──500/s──► edgemesh gateway ──► backends one and two
 *                                              ▲ routes, endpoints and certificates flip
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { stringify } from 'yaml'
import { createLab, edgemeshBinary, type Host, type Lab, type LabProcess } from '../lab/index.ts'
import { startDoubleStore } from './support/double-store.ts'
import {
  backendScript,
  certificate,
  clientScript,
  curl,
  gatewayConfig,
  kube,
  nodeProcess,
  secretOf,
  serviceWith,
} from './support/gateway-site.ts'
import { eventually } from './support/site.ts'

let lab: Lab
let host: Host
let gateway: LabProcess

before(async () => {
  lab = await createLab({ cloud: ['edge'] })
  host = lab.node('edge')
  for (const name of ['first', 'second']) await certificate(host, name, ['*.test'])
  for (const [name, port] of [
    ['one', '9000'],
    ['one', '9200'],
    ['two', '9100'],
  ] as const) {
    await nodeProcess(host, [backendScript, name, port]).waitForLine(/ready/, 10_000)
  }
  await writeRoutes('one')
  await writeCertificate('first')
  const config = await gatewayConfig(host, lab, { accessLog: { mode: 'off' }, nic: 'lo,gw0', excludeIP: '192.0.2.78' })
  gateway = host.spawn([edgemeshBinary(), 'gateway', '--config', config])
  await gateway.waitForLine(/"msg":"gateway ready"/, 20_000)
  await eventually(10_000, async () => assert.equal((await curl(host, 'http://a.test:8080/')).status, 200))
})
after(() => lab?.[Symbol.asyncDispose]())

const ports = [{ name: 'http', port: 80 }]
const istio = (kind: string, name: string, spec: object) =>
  kube('networking.istio.io/v1beta1', kind, 'shop', name, spec)

/** What Service one consists of, in turn. */
const endpointsOfOne = [[9000], [9000, 9200], [9200]]

/** Everything goes to that Service, whose endpoints change as well; a port of the same Gateway comes and goes with it. */
async function writeRoutes(to: 'one' | 'two', round = 0): Promise<void> {
  const endpoints = endpointsOfOne[round % endpointsOfOne.length] ?? []
  const servers = [
    { port: { number: 8080, name: 'http', protocol: 'HTTP' }, hosts: ['*'] },
    {
      port: { number: 8443, name: 'https', protocol: 'HTTPS' },
      hosts: ['*'],
      tls: { mode: 'SIMPLE', credentialName: 'cert' },
    },
    ...(to === 'two' ? [{ port: { number: 8081, name: 'more', protocol: 'HTTP' }, hosts: ['*'] }] : []),
  ]
  const objects = [
    ...serviceWith(
      'shop',
      'one',
      ports,
      endpoints.map((base) => ({ pod: `one-${base}`, base })),
      host.name,
    ),
    ...serviceWith('shop', 'two', ports, [{ pod: 'two', base: 9100 }], host.name),
    istio('Gateway', 'front', { servers }),
    istio('VirtualService', 'steady', {
      hosts: ['*'],
      gateways: ['front'],
      http: [{ route: [{ destination: { host: to } }] }],
    }),
  ]
  await lab.writeManifest('routes.yaml', objects.map((object) => stringify(object)).join('---\n'))
}

async function writeCertificate(name: string): Promise<void> {
  await lab.writeManifest('certificate.yaml', stringify(await secretOf(host, name, 'cert')))
}

async function subjectNow(): Promise<string> {
  const { stdout } = await host.exec(['openssl', 's_client', '-connect', '127.0.0.1:8443', '-servername', 'a.test'])
  return /subject=CN = (\w+)/.exec(stdout)?.[1] ?? ''
}

const rounds = 20
const roundMs = 900

test(`${rounds} changes of routes, endpoints, listeners and certificates under load cost no request`, async () => {
  const seconds = String(Math.ceil((rounds * roundMs) / 1000) + 3)
  const held = host.exec([process.execPath, clientScript, 'held', '127.0.0.1', '8080', seconds], { timeoutMs: 120_000 })
  const clients = ['http://127.0.0.1:8080', 'https://127.0.0.1:8443'].map((origin) =>
    host.exec([process.execPath, clientScript, 'steady', origin, '250', seconds], { timeoutMs: 120_000 }),
  )
  await delay(1_000)
  for (let round = 1; round <= rounds; round++) {
    await writeRoutes(round % 2 === 0 ? 'one' : 'two', round)
    await writeCertificate(round % 2 === 0 ? 'first' : 'second')
    await delay(roundMs)
  }
  for (const { stdout, stderr } of await Promise.all(clients)) {
    assert.notEqual(stdout, '', stderr)
    const { statuses, backends } = JSON.parse(stdout)
    assert.deepEqual(Object.keys(statuses), ['200'], stdout)
    assert.ok(statuses['200'] >= 250 * Number(seconds))
    assert.deepEqual(backends, ['one', 'two'])
  }
  const { answers, isClosed } = JSON.parse((await held).stdout)
  assert.ok(answers > rounds && !isClosed, `one connection took ${answers} answers; closed: ${isClosed}`)
  await eventually(5_000, async () => assert.equal(await subjectNow(), 'first'))
  await writeCertificate('second')
  await eventually(5_000, async () => assert.equal(await subjectNow(), 'second'))
})

test('a listener that is taken away lets the request finish that is under way', async () => {
  await writeRoutes('two')
  await eventually(5_000, async () => assert.equal((await curl(host, 'http://a.test:8081/')).status, 200))
  const slow = curl(host, 'http://a.test:8081/?delay=1500')
  await delay(500)
  await writeRoutes('one')
  await eventually(5_000, async () => assert.equal((await curl(host, 'http://a.test:8081/')).status, 0))
  assert.equal((await slow).status, 200)
})

test('an interface that comes is listened on, and one that goes is forgotten', async () => {
  const ip = async (...args: readonly string[]) => {
    const { code, stderr } = await host.exec(['ip', ...args])
    assert.equal(code, 0, stderr)
  }
  const listeners = async () => {
    const config = join(host.dir, 'edgemesh-gateway.yaml')
    const { stdout } = await host.exec([edgemeshBinary(), 'status', 'gateway', '--config', config, '--json'])
    const { gateway } = JSON.parse(stdout)
    return gateway.listeners.map(({ address }: { readonly address: string }) => address)
  }
  const answer = () =>
    host.exec(['curl', '-s', '-m', '5', '-o', '/dev/null', '-w', '%{http_code}', 'http://192.0.2.77:8080/'])
  assert.ok((await listeners()).includes('127.0.0.1:8080'))
  await ip('link', 'add', 'gw0', 'type', 'bridge')
  for (const address of ['192.0.2.77/32', '192.0.2.78/32']) await ip('address', 'add', address, 'dev', 'gw0')
  await ip('link', 'set', 'gw0', 'up')
  await eventually(10_000, async () => assert.equal((await answer()).stdout, '200'))
  assert.ok(!(await listeners()).includes('192.0.2.78:8080'))
  await ip('link', 'delete', 'gw0')
  await eventually(10_000, async () => assert.ok(!(await listeners()).includes('192.0.2.77:8080')))
  assert.equal((await curl(host, 'http://a.test:8080/')).status, 200)
})

test('3,000 routes are loaded, and one more is seen soon', async () => {
  const many = Array.from({ length: 3000 }, (_, index) =>
    istio('VirtualService', `many-${index}`, {
      hosts: [`h${index}.test`],
      gateways: ['front'],
      http: [{ match: [{ uri: { prefix: '/' } }], directResponse: { status: 200, body: { string: `h${index}` } } }],
    }),
  )
  const writtenAt = performance.now()
  await lab.writeManifest('many.json', JSON.stringify({ apiVersion: 'v1', kind: 'List', items: many }))
  await eventually(15_000, async () => assert.equal((await curl(host, 'http://h2999.test:8080/')).body, 'h2999'))
  const loadedMs = performance.now() - writtenAt
  const times: number[] = []
  for (let index = 0; index < 5; index++) {
    const addedAt = performance.now()
    const more = istio('VirtualService', `more-${index}`, {
      hosts: [`more${index}.test`],
      gateways: ['front'],
      http: [{ directResponse: { status: 200, body: { string: `more${index}` } } }],
    })
    await lab.writeManifest(`more-${index}.yaml`, stringify(more))
    await eventually(10_000, async () => {
      assert.equal((await curl(host, `http://more${index}.test:8080/`)).body, `more${index}`)
    })
    times.push(Math.round(performance.now() - addedAt))
  }
  console.log(`3,000 routes visible after ${Math.round(loadedMs)} ms; one more after ${times.join(', ')} ms`)
})

const kinds = ['services', 'nodes', 'pods'].map((plural) => `/api/v1/${plural}`)
const istioKinds = ['destinationrules', 'gateways', 'virtualservices'].map((plural) => {
  return `/apis/networking.istio.io/v1beta1/${plural}`
})
const served = [...kinds, '/apis/discovery.k8s.io/v1/endpointslices', ...istioKinds]

/** A Gateway with a server that is in force and one that is not, and a VirtualService that leads nowhere. */
function faultyObjects(): string {
  const http = { port: { number: 8181, name: 'http', protocol: 'HTTP' }, hosts: ['*'] }
  const tls = { port: { number: 8182, name: 'tls', protocol: 'TLS' }, hosts: ['*'], tls: { mode: 'AUTO_PASSTHROUGH' } }
  const route = [{ destination: { host: 'nowhere' } }]
  const objects = [
    istio('Gateway', 'told', { servers: [http, tls] }),
    istio('VirtualService', 'told', { hosts: ['*'], gateways: ['told'], http: [{ route }] }),
  ]
  return objects.map((object) => stringify(object)).join('---\n')
}

/** Type, status and message of the first condition of the object. */
async function conditionOf(api: string, plural: string): Promise<readonly (string | undefined)[]> {
  const url = `${api}/apis/networking.istio.io/v1beta1/namespaces/shop/${plural}/told/status`
  const { stdout } = await host.exec(['curl', '-s', url])
  const [{ type, status, message }] = JSON.parse(stdout).status?.conditions ?? [{}]
  return [type, status, message]
}

test('what is wrong with an object is in its status, until it is mended', async () => {
  const master = 'http://127.0.0.1:8001'
  await using api = await startDoubleStore(host, { port: 8001, served }, { master })
  await api.write('objects', faultyObjects())
  // One gateway a node.
  await gateway.stop()
  const config = await gatewayConfig(host, lab, {}, { name: 'telling', kubeAPIConfig: { master } })
  await using _telling = host.spawn([edgemeshBinary(), 'gateway', '--config', config])
  const type = 'edgemesh.kubeedge.io/InForce'
  await eventually(30_000, async () => {
    const [, , message] = await conditionOf(master, 'gateways')
    assert.match(message ?? '', /^spec\.servers\[1\]\.tls\.mode: must not be AUTO_PASSTHROUGH/)
    const said = await conditionOf(master, 'virtualservices')
    assert.deepEqual(said, [type, 'False', 'there is no Service shop/nowhere'])
  })
  await api.write('service', stringify(serviceWith('shop', 'nowhere', ports, [], host.name)[0]))
  await eventually(40_000, async () => {
    assert.deepEqual(await conditionOf(master, 'virtualservices'), [type, 'True', 'all of it is in force'])
  })
  assert.equal((await conditionOf(master, 'gateways'))[1], 'False')
})

test('through a metaServer that lets nobody write, objects stay as they are, and status says why', async () => {
  const habits = { ignoresLimit: true, oddSelfLink: true, withoutHistory: true, refusesPatches: true }
  await using metaServer = await startDoubleStore(host, { port: 10550, served, habits }, {})
  await metaServer.write('objects', faultyObjects())
  const config = await gatewayConfig(host, lab, {}, { name: 'offline', kubeAPIConfig: {} })
  await using running = host.spawn([edgemeshBinary(), 'gateway', '--config', config])
  await eventually(30_000, async () => {
    const { stdout } = await host.exec([edgemeshBinary(), 'status', 'gateway', '--config', config])
    assert.match(stdout, /metaServer http:\/\/127\.0\.0\.1:10550/)
    assert.match(stdout, /problem: VirtualService shop\/told: there is no Service shop\/nowhere/)
    assert.match(stdout, /not written into the objects: Cannot patch \S+\/told\/status: 405/)
  })
  assert.deepEqual(await conditionOf('http://127.0.0.1:10550', 'gateways'), [undefined, undefined, undefined])
  assert.equal(running.exit, undefined)
})
