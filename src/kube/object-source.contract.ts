/** What every source of objects promises, as tests that each of them passes. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type Catalog, createCatalog, type ObjectKind, type ObjectSink, type Snapshot } from '../catalog/index.ts'
import type { ObjectSource, ObjectSourceStatus } from './object-source.ts'

/** An object as people write it. */
export interface WrittenObject {
  readonly apiVersion: string
  readonly kind: 'Service' | 'EndpointSlice' | 'Node' | 'DestinationRule' | 'Pod'
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: object }
  readonly [field: string]: unknown
}

/** An origin that a test changes, and the source that follows it; disposal ends both. */
export interface OriginUnderTest extends AsyncDisposable {
  /** `kinds` as the source takes them: absent means its usual ones. */
  start(sink: ObjectSink, kinds?: readonly ObjectKind[]): Promise<ObjectSource>
  /** Creates the object, or puts it in the place of the one of that name. */
  write(object: WrittenObject): Promise<void>
  delete(object: WrittenObject): Promise<void>
  /** Makes the origin unreachable; what it holds is kept. */
  goAway(): Promise<void>
  comeBack(): Promise<void>
}

const service = (name: string, clusterIP: string): WrittenObject => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { clusterIP, ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }] },
})

const slice = (name: string, addresses: readonly string[]): WrittenObject => ({
  apiVersion: 'discovery.k8s.io/v1beta1',
  kind: 'EndpointSlice',
  metadata: { name: `${name}-1`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv4',
  ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  endpoints: addresses.map((address) => ({
    addresses: [address],
    conditions: { ready: true },
    topology: { 'kubernetes.io/hostname': 'edge-a' },
  })),
})

const node = (name: string, podCIDR: string): WrittenObject => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  spec: { podCIDR, podCIDRs: [podCIDR] },
})

const rule = (name: string, simple: string): WrittenObject => ({
  apiVersion: 'networking.istio.io/v1beta1',
  kind: 'DestinationRule',
  metadata: { name, namespace: 'default' },
  spec: { host: name, trafficPolicy: { loadBalancer: { simple } } },
})

const pod = (name: string, podIP: string): WrittenObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', labels: { app: name } },
  spec: { nodeName: 'edge-a' },
  status: { phase: 'Running', podIP },
})

/** Runs the contract; `make` gives a fresh origin to each test. `patienceMs` is how long a change may take to show. */
export function describeObjectSource(name: string, make: () => Promise<OriginUnderTest>, patienceMs = 10_000): void {
  const run = (what: string, body: (site: Site) => Promise<void>) =>
    test(what, async () => {
      await using site = await createSite(await make(), patienceMs)
      await body(site)
    })
  suite(`${name}, as a source of objects,`, () => {
    run('delivers everything that is there', deliversEverything)
    run('follows objects that appear, change and go', followsChanges)
    run('keeps what is known while its origin is away, and catches up when it is back', survivesAbsence)
    run('follows nothing once it is disposed', endsWithDisposal)
  })
}

/** The contract for kinds that not every origin offers; the source is one of the node `edge-a`. */
export function describeMoreKinds(name: string, make: () => Promise<OriginUnderTest>, patienceMs = 10_000): void {
  test(`${name} delivers rules and Pods to those who ask for them, and to nobody else`, async () => {
    await using site = await createSite(await make(), patienceMs)
    await site.origin.write(service('web', '10.96.1.1'))
    await site.origin.write(rule('web', 'RANDOM'))
    await site.origin.write(pod('web-0', '10.0.0.1'))
    const { catalog } = await site.start(['nodes', 'services', 'endpointSlices', 'destinationRules', 'pods'])
    const known = () => {
      const { destinationRules, podOf } = catalog.current
      const policies = [...destinationRules.values()].map(({ host, trafficPolicy }) => [host, trafficPolicy])
      return JSON.stringify([policies, podOf('default', 'web-0')?.podIPs])
    }
    const becomes = async (expected: string) => {
      await site.until(() => known() === expected).catch(() => assert.equal(known(), expected))
    }
    await becomes('[[["web",{"loadBalancer":{"kind":"random"}}]],["10.0.0.1"]]')
    await site.origin.write(rule('web', 'ROUND_ROBIN'))
    await site.origin.write(pod('web-0', '10.0.0.2'))
    await becomes('[[["web",{"loadBalancer":{"kind":"round-robin"}}]],["10.0.0.2"]]')
    await site.origin.delete(rule('web', ''))
    await site.origin.delete(pod('web-0', ''))
    await becomes('[[],null]')
    await site.origin.write(rule('web', 'RANDOM'))
    await becomes('[[["web",{"loadBalancer":{"kind":"random"}}]],null]')
    await using basic = await createSite(site.origin, patienceMs)
    await basic.start()
    await basic.holds('web 10.96.1.1 ->')
    assert.equal(basic.catalog.current.destinationRules.size, 0)
  })
}

async function deliversEverything({ origin, start, holds }: Site): Promise<void> {
  await origin.write(service('web', '10.96.1.1'))
  await origin.write(slice('web', ['10.0.0.1', '10.0.0.2']))
  await origin.write(node('edge-a', '10.244.1.0/24'))
  const { source } = await start()
  await holds('edge-a 10.244.1.0/24; web 10.96.1.1 -> edge-a/10.0.0.1:8080 edge-a/10.0.0.2:8080')
  assert.deepEqual(problemsOf(source.status()), [])
}

async function followsChanges({ origin, start, holds }: Site): Promise<void> {
  await start()
  await origin.write(service('web', '10.96.1.1'))
  await holds('web 10.96.1.1 ->')
  await origin.write(slice('web', ['10.0.0.1']))
  await holds('web 10.96.1.1 -> edge-a/10.0.0.1:8080')
  await origin.write(slice('web', ['10.0.0.2']))
  await origin.write(service('api', '10.96.1.2'))
  await holds('api 10.96.1.2 ->; web 10.96.1.1 -> edge-a/10.0.0.2:8080')
  await origin.write(node('edge-a', '10.244.1.0/24'))
  await origin.delete(slice('web', []))
  await holds('edge-a 10.244.1.0/24; api 10.96.1.2 ->; web 10.96.1.1 ->')
  await origin.delete(service('web', ''))
  await origin.delete(node('edge-a', ''))
  await holds('api 10.96.1.2 ->')
}

async function survivesAbsence({ origin, start, holds, describe, until }: Site): Promise<void> {
  await origin.write(service('web', '10.96.1.1'))
  const { source } = await start()
  const known = 'web 10.96.1.1 ->'
  await holds(known)
  await origin.goAway()
  await until(() => problemsOf(source.status()).length > 0)
  assert.equal(describe(), known)
  await origin.comeBack()
  await origin.write(service('api', '10.96.1.2'))
  await origin.delete(service('web', ''))
  await holds('api 10.96.1.2 ->')
  await until(() => problemsOf(source.status()).length === 0)
}

async function endsWithDisposal({ origin, start, holds, describe }: Site): Promise<void> {
  await origin.write(service('web', '10.96.1.1'))
  const { source } = await start()
  await holds('web 10.96.1.1 ->')
  await source[Symbol.asyncDispose]()
  await origin.write(service('api', '10.96.1.2'))
  // A second source sees the change, so the first one has had the time that it takes.
  await using other = await createSite(origin, 10_000)
  await other.start()
  await other.holds('api 10.96.1.2 ->; web 10.96.1.1 ->')
  assert.equal(describe(), 'web 10.96.1.1 ->')
}

interface Site extends AsyncDisposable {
  readonly origin: OriginUnderTest
  readonly catalog: Catalog
  start(kinds?: readonly ObjectKind[]): Promise<{ readonly source: ObjectSource; readonly catalog: Catalog }>
  /** What the catalog holds, as one line. */
  describe(): string
  /** Resolves when the catalog is synced and holds exactly this. */
  holds(expected: string): Promise<void>
  until(condition: () => boolean): Promise<void>
}

async function createSite(origin: OriginUnderTest, patienceMs: number): Promise<Site> {
  await using starting = new AsyncDisposableStack()
  starting.use(origin)
  const catalog = starting.use(createCatalog({ debounceMs: 1 }))
  const until = async (condition: () => boolean) => {
    const giveUpAt = performance.now() + patienceMs
    while (!condition() && performance.now() < giveUpAt) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  const running = starting.move()
  return {
    origin,
    catalog,
    start: async (kinds) => ({ source: running.use(await origin.start(catalog, kinds)), catalog }),
    describe: () => describeCatalog(catalog),
    holds: async (expected) => {
      await until(() => catalog.isSynced && describeCatalog(catalog) === expected)
      assert.deepEqual([catalog.isSynced, describeCatalog(catalog)], [true, expected])
    },
    until: async (condition) => {
      await until(condition)
      assert.ok(condition())
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** The objects of the namespace `default`, but not the API server's own Service. */
function describeCatalog({ current }: Catalog): string {
  const nodes = [...current.nodes.values()].map(({ name, podCIDRs }) => `${name} ${podCIDRs.join()}`).sort()
  const services = [...current.services.values()]
    .filter(({ namespace, name }) => namespace === 'default' && name !== 'kubernetes')
    .map((known) => `${known.name} ${known.clusterIPs.join()} ->${backendsOf(current, known)}`)
    .sort()
  return [...nodes, ...services].join('; ')
}

function backendsOf(snapshot: Snapshot, known: Parameters<Snapshot['slicesOf']>[0]): string {
  const backends = known.ports.flatMap((port) => snapshot.backendsOf(known, port))
  return backends.map(({ nodeName, address, port }) => ` ${nodeName}/${address}:${port}`).join('')
}

function problemsOf(status: ObjectSourceStatus): readonly string[] {
  if (status.kind === 'manifests') return status.errors.map(({ message }) => message)
  return status.resources.flatMap(({ lastError }) => lastError ?? [])
}
