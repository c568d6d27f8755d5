/** examples/*.yaml say what EdgeMesh's users expect of them, hang together, and parse without a complaint. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { createCatalog } from '../src/catalog/index.ts'
import { parseService, startManifestsSource } from '../src/kube/index.ts'
import { silentLogger } from '../src/observability/index.ts'
import { problemsOf } from './crd-schema.ts'

const folder = new URL('../examples/', import.meta.url)
const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'))

/** The Services that the walkthroughs of EdgeMesh use: `namespace/name port/protocol→target`. */
const expectedServices: Readonly<Record<string, string>> = {
  'cloudzone.yaml': 'cloudzone/tcp-echo-cloud-svc 2701/TCP→2701',
  'edgezone.yaml': 'edgezone/tcp-echo-edge-svc 2701/TCP→2701',
  'hostname.yaml': 'edgemesh-test/hostname-svc 12345/TCP→9376',
  'hostname-udp.yaml': 'edgemesh-test/hostname-udp-svc 12345/UDP→9376',
  'hostname-lb-consistenthash.yaml': 'edgemesh-test/hostname-lb-svc 12345/TCP→9376',
  'hostname-lb-random.yaml': 'edgemesh-test/hostname-lb-svc 12345/TCP→9376',
  'hostname-lb-random-gateway.yaml': 'edgemesh-test/hostname-lb-svc 12345/TCP→9376',
  'hostname-lb-random-gateway-tls.yaml': 'edgemesh-test/hostname-lb-svc 12345/TCP→9376',
  'hostname-lb-roundrobin.yaml': 'edgemesh-test/hostname-lb-svc 12345/TCP→9376',
  'hostname-lb-sessionaffinity.yaml': 'edgemesh-test/hostname-lb-svc 12345/TCP→9376',
  'tcp-echo-service.yaml': 'edgemesh-test/tcp-echo-service 2701/TCP→2701',
  'websocket-pod-svc.yaml': 'edgemesh-test/ws-svc 12348/TCP→8080',
}

interface KubeObject {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
  }
  readonly spec: {
    readonly selector: Readonly<Record<string, string>>
    readonly ports: readonly {
      readonly name: string
      readonly port: number
      readonly protocol: string
      readonly targetPort: number
    }[]
    readonly template?: KubeObject
    readonly containers: readonly { readonly ports?: readonly { containerPort: number; protocol: string }[] }[]
    readonly sessionAffinity?: string
    readonly trafficPolicy?: { readonly loadBalancer: object }
  }
}

const textOf = (name: string) => readFileSync(new URL(name, folder), 'utf8')

function objectsOf(name: string): KubeObject[] {
  return parseAllDocuments(textOf(name)).map((document): KubeObject => {
    assert.deepEqual(document.errors, [])
    return document.toJS()
  })
}

function serviceOf(name: string): KubeObject {
  const [service, ...others] = objectsOf(name).filter(({ kind }) => kind === 'Service')
  assert.ok(service && others.length === 0)
  return service
}

test('the examples are those of the table, and the README names each', () => {
  assert.deepEqual(names.sort(), Object.keys(expectedServices).sort())
  const readme = textOf('README.md')
  for (const name of names) assert.ok(readme.includes(`[${name.replace('.yaml', '')}](${name})`), name)
})

for (const name of names) {
  suite(`examples/${name}`, () => {
    test('has the Service that it is known for, with a port named after its protocol', () => {
      const { metadata, spec } = serviceOf(name)
      const [port, ...others] = spec.ports
      assert.ok(port && others.length === 0)
      const described = `${metadata.namespace}/${metadata.name} ${port.port}/${port.protocol}→${port.targetPort}`
      assert.equal(described, expectedServices[name])
      assert.match(port.name, /^(http|tcp|udp)-0$/)
    })

    test('brings the pods that its Service selects, listening on the target port', () => {
      const { selector, ports } = serviceOf(name).spec
      const pods = objectsOf(name).map((object) => object.spec?.template ?? object)
      const selected = pods.filter(({ metadata }) =>
        Object.entries(selector).every(([key, value]) => metadata.labels?.[key] === value),
      )
      assert.equal(selected.length, 1)
      const listening = selected[0]?.spec.containers[0]?.ports ?? []
      assert.deepEqual(
        listening.map(({ containerPort, protocol }) => [containerPort, protocol]),
        ports.map(({ targetPort, protocol }) => [targetPort, protocol]),
      )
    })

    test('brings the namespace of everything in it', () => {
      const objects = objectsOf(name)
      const [namespace] = objects
      assert.equal(namespace?.kind, 'Namespace')
      for (const { metadata } of objects.slice(1)) assert.equal(metadata.namespace, namespace?.metadata.name)
    })

    test('is a Service to the agent once the API has given it an address', () => {
      const { spec, ...rest } = serviceOf(name)
      const service = parseService({ ...rest, spec: { ...spec, clusterIP: '10.96.0.7' } })
      const [port] = service.ports
      const described = `${service.namespace}/${service.name} ${port?.port}/${port?.protocol.toUpperCase()}`
      assert.equal(described, expectedServices[name]?.split('→')[0])
      assert.deepEqual([service.type, service.clusterIPs, service.headless], ['ClusterIP', ['10.96.0.7'], false])
    })
  })
}

test('each way of balancing is asked for in the words of its API', () => {
  const policyOf = (name: string) =>
    objectsOf(`hostname-lb-${name}.yaml`).find(({ kind }) => kind === 'DestinationRule')?.spec.trafficPolicy
      ?.loadBalancer
  assert.deepEqual(policyOf('random'), { simple: 'RANDOM' })
  assert.deepEqual(policyOf('roundrobin'), { simple: 'ROUND_ROBIN' })
  assert.deepEqual(policyOf('consistenthash'), { consistentHash: { httpHeaderName: 'User-Agent' } })
  assert.equal(policyOf('sessionaffinity'), undefined)
  assert.equal(serviceOf('hostname-lb-sessionaffinity.yaml').spec.sessionAffinity, 'ClientIP')
})

test("the objects of Istio's kinds are what manifests/istio-crds.yaml defines", () => {
  const text = readFileSync(new URL('../manifests/istio-crds.yaml', import.meta.url), 'utf8')
  const definitions = parseAllDocuments(text).map((document): unknown => document.toJS())
  const objects = names.flatMap(objectsOf).filter(({ kind }) => /^(DestinationRule|Gateway|VirtualService)$/.test(kind))
  assert.equal(objects.length, 9)
  for (const object of objects) assert.deepEqual(problemsOf(definitions, object), [])
})

test('the example for the folder of manifests is read without a complaint', async () => {
  const directory = fileURLToPath(new URL('manifests-folder', folder))
  using catalog = createCatalog()
  await using source = await startManifestsSource({ directory, sink: catalog, logger: silentLogger })
  assert.deepEqual(source.status(), { kind: 'manifests', directory, files: 1, errors: [] })
  const service = catalog.current.services.get('edgemesh-test/hostname-svc')
  const [port] = service?.ports ?? []
  assert.ok(service && port)
  assert.equal(catalog.current.backendsOf(service, port).length, 2)
})

test('a DestinationRule has the name of its Service, which is how it is found', () => {
  for (const name of names) {
    for (const { kind, metadata } of objectsOf(name)) {
      if (kind === 'DestinationRule') assert.equal(metadata.name, serviceOf(name).metadata.name)
    }
  }
})
