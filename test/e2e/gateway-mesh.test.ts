/**
 * The gateway in front of a mesh, and the examples:
 *
 *            wan
 *     ┌───────┴──────┬──────────────┐
 *   relay         cloud-1        router-a (NAT)
 *   server        gateway            │
 *                                 edge-a1   agent, pod web-edge-a1
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parse, parseAllDocuments, stringify } from 'yaml'
import { edgemeshBinary, type Host, type Lab, type LabProcess } from '../lab/index.ts'
import { startDoubleStore } from './support/double-store.ts'
import { backendScript, curl, gatewayConfig, kube, nodeProcess, serviceWith } from './support/gateway-site.ts'
import { createSite, eventually } from './support/site.ts'

let lab: Lab
let host: Host
let gateway: LabProcess

before(async () => {
  const spec = {
    cloud: { relay: {}, 'cloud-1': {} },
    lans: { a: { nodes: { 'edge-a1': { pods: ['web-edge-a1'] } } } },
  } as const
  lab = await createSite(spec, ['edge-a1'])
  host = lab.node('cloud-1')
  await lab.startServer('relay')
  await lab.startAgent('edge-a1')
  await lab.writeManifest('gateway.yaml', `${stringify(front)}---\n${stringify(toEdge)}`)
  gateway = host.spawn([edgemeshBinary(), 'gateway', '--config', await meshConfig()])
  await gateway.waitForLine(/"msg":"gateway ready"/, 20_000)
})
after(() => lab?.[Symbol.asyncDispose]())

const front = kube('networking.istio.io/v1beta1', 'Gateway', 'default', 'front', {
  selector: { kubeedge: 'edgemesh-gateway' },
  servers: [{ port: { number: 8080, name: 'http', protocol: 'HTTP' }, hosts: ['*'] }],
})
const toEdge = kube('networking.istio.io/v1beta1', 'VirtualService', 'default', 'edge', {
  hosts: ['edge.test'],
  gateways: ['front'],
  http: [{ route: [{ destination: { host: 'web-edge-a1', port: { number: 80 } } }] }],
})

/** The gateway's configuration with the tunnel to the lab's server. */
async function meshConfig(): Promise<string> {
  const file = await gatewayConfig(host, lab)
  const config = parse(await readFile(file, 'utf8'))
  config.modules.edgeTunnel = {
    enable: true,
    servers: [`${lab.node('relay').address}:20004`],
    psk: { path: join(lab.dir, 'psk') },
  }
  await writeFile(file, stringify(config))
  return file
}

test('a request from outside reaches a pod behind a NAT', async () => {
  await eventually(20_000, async () => {
    const answer = await curl(host, 'http://edge.test:8080/')
    assert.equal(answer.status, 200, answer.body)
    assert.match(answer.body, /web-edge-a1/)
  })
  const { stdout } = await host.exec([
    edgemeshBinary(),
    'status',
    'gateway',
    '--config',
    join(host.dir, 'edgemesh-gateway.yaml'),
  ])
  assert.match(stdout, /server {4}\S+:20004: connected/)
})

test('without an agent at the far end the answer says what is missing', async () => {
  const away = serviceWith(
    'default',
    'away',
    [{ name: 'http', port: 80 }],
    [{ pod: 'x', base: 9000, address: '10.244.9.9' }],
    'edge-x9',
  )
  const route = { ...toEdge, metadata: { namespace: 'default', name: 'away' } }
  const spec = { ...toEdge.spec, hosts: ['away.test'], http: [{ route: [{ destination: { host: 'away' } }] }] }
  await lab.writeManifest('away.yaml', [...away, { ...route, spec }].map((object) => stringify(object)).join('---\n'))
  await eventually(10_000, async () => {
    const answer = await curl(host, 'http://away.test:8080/')
    assert.equal(answer.status, 503)
    assert.match(answer.body, /edge-x9\/10\.244\.9\.9:9000: /)
  })
})

/** The objects of an example that a gateway reads; what a cluster would add is made here. */
function exampleObjects(name: string): string {
  const text = readFileSync(new URL(`../../examples/${name}`, import.meta.url), 'utf8')
  const objects = parseAllDocuments(text).map((document) => document.toJS() as { readonly kind: string })
  return objects
    .filter(({ kind }) => ['Gateway', 'VirtualService', 'DestinationRule'].includes(kind))
    .map((object) => stringify(object))
    .join('---\n')
}

/** The Service of the examples with its three endpoints, which a cluster would have made of their Pods. */
function exampleService(): string {
  const service = serviceWith(
    'edgemesh-test',
    'hostname-lb-svc',
    [{ name: 'http-0', port: 12345 }],
    [
      { pod: 'one', base: 9000 },
      { pod: 'two', base: 9100 },
      { pod: 'three', base: 9200 },
    ],
    host.name,
  )
  return service.map((object) => stringify(object)).join('---\n')
}

/** What the manual of the Go system does with its two examples, and what it says comes of it. */
async function followManual(apply: (name: string, yamlText: string) => Promise<void>): Promise<void> {
  await apply('service.yaml', exampleService())
  await apply('example.yaml', exampleObjects('hostname-lb-random-gateway.yaml'))
  await eventually(20_000, async () => assert.equal((await curl(host, 'http://127.0.0.1:12345')).status, 200))
  const names = new Set<string | undefined>()
  for (let asked = 0; asked < 60 && names.size < 3; asked++) {
    names.add((await curl(host, 'http://127.0.0.1:12345')).headers['x-backend'])
  }
  assert.deepEqual(names, new Set(['one', 'two', 'three']))

  const file = (name: string) => join(host.dir, name)
  const made = await host.exec([
    ...['openssl', 'req', '-x509', '-nodes', '-days', '365', '-newkey', 'rsa:2048'],
    ...['-keyout', file('tls.key'), '-out', file('tls.crt'), '-subj', '/CN=kubeedge.io'],
  ])
  assert.equal(made.code, 0, made.stderr)
  const data = {
    'tls.crt': await readFile(file('tls.crt'), 'base64'),
    'tls.key': await readFile(file('tls.key'), 'base64'),
  }
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/tls',
    metadata: { namespace: 'edgemesh-test', name: 'gw-secret' },
  }
  await apply('secret.yaml', stringify({ ...secret, data }))
  await apply('example.yaml', exampleObjects('hostname-lb-random-gateway-tls.yaml'))
  const ask = async (...options: readonly string[]) => {
    return (await curl(host, 'https://127.0.0.1:12345', '-k', ...options)).status
  }
  const known = ['--cert', file('tls.crt'), '--key', file('tls.key')]
  await eventually(20_000, async () => assert.equal(await ask(...known), 200))
  assert.equal(await ask(), 200)
  // More than the manual says: an authority in the Secret asks for certificates.
  await apply('secret.yaml', stringify({ ...secret, data: { ...data, 'ca.crt': data['tls.crt'] } }))
  await eventually(20_000, async () => assert.equal(await ask(), 0))
  assert.equal(await ask(...known), 200)
}

test('the examples work as the manual of the Go system says, from a folder', async () => {
  for (const [name, port] of [
    ['one', '9000'],
    ['two', '9100'],
    ['three', '9200'],
  ] as const) {
    await nodeProcess(host, [backendScript, name, port]).waitForLine(/ready/, 10_000)
  }
  await followManual((name, text) => lab.writeManifest(name, text))
})

test('the examples work as the manual of the Go system says, from an API', async () => {
  await gateway.stop()
  const master = 'http://127.0.0.1:8001'
  const core = ['services', 'nodes', 'pods', 'secrets'].map((plural) => `/api/v1/${plural}`)
  const istio = ['destinationrules', 'gateways', 'virtualservices'].map((plural) => {
    return `/apis/networking.istio.io/v1beta1/${plural}`
  })
  const served = [...core, '/apis/discovery.k8s.io/v1/endpointslices', ...istio]
  await using api = await startDoubleStore(host, { port: 8001, served }, { master })
  const config = await gatewayConfig(host, lab, {}, { name: 'api', kubeAPIConfig: { master } })
  await using following = host.spawn([edgemeshBinary(), 'gateway', '--config', config])
  await following.waitForLine(/"msg":"gateway ready"/, 20_000)
  await followManual((name, text) => api.write(name, text))
})
