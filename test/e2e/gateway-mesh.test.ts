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
import {
  backendScript,
  certificate,
  curl,
  gatewayConfig,
  kube,
  nodeProcess,
  secretOf,
  serviceWith,
} from './support/gateway-site.ts'
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

test('the examples work as their first lines say', async () => {
  for (const [name, port] of [
    ['one', '9000'],
    ['two', '9100'],
    ['three', '9200'],
  ] as const) {
    await nodeProcess(host, [backendScript, name, port]).waitForLine(/ready/, 10_000)
  }
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
  await lab.writeManifest('service.yaml', service.map((object) => stringify(object)).join('---\n'))
  await lab.writeManifest('example.yaml', exampleObjects('hostname-lb-random-gateway.yaml'))
  await eventually(10_000, async () => assert.equal((await curl(host, 'http://127.0.0.1:23333')).status, 200))
  const names = new Set<string | undefined>()
  for (let asked = 0; asked < 60 && names.size < 3; asked++) {
    names.add((await curl(host, 'http://127.0.0.1:23333')).headers['x-backend'])
  }
  assert.deepEqual(names, new Set(['one', 'two', 'three']))

  await certificate(host, 'kubeedge', ['kubeedge.io'])
  const file = (ending: string) => join(host.dir, `kubeedge.${ending}`)
  const secret = await secretOf(host, 'kubeedge', 'gw-secret', { 'ca.crt': await readFile(file('crt'), 'base64') })
  await lab.writeManifest(
    'secret.yaml',
    stringify({ ...secret, metadata: { namespace: 'edgemesh-test', name: 'gw-secret' } }),
  )
  await lab.writeManifest('example.yaml', exampleObjects('hostname-lb-random-gateway-tls.yaml'))
  const ask = (...options: readonly string[]) => curl(host, 'https://127.0.0.1:23333', '--insecure', ...options)
  await eventually(10_000, async () => {
    assert.equal((await ask('--cert', file('crt'), '--key', file('key'))).status, 200)
  })
  assert.equal((await ask()).status, 0)
})
