/**
 * Objects from a real kube-apiserver, as users of different rights see them, through its death and return.
 *
 *     test ── HTTPS ──► kube-apiserver ──► etcd          all on loopback, in namespaces of their own
 *       └─ source under test ─┘   ▲
 *                        kube-controller-manager          makes Endpoints and EndpointSlices from Pods
 */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createCatalog, type ObjectSink } from '../../src/catalog/index.ts'
import { kubeSchema } from '../../src/kube/config.ts'
import { type ApiSourceOptions, startApiSource } from '../../src/kube/index.ts'
import {
  describeObjectSource,
  type OriginUnderTest,
  type WrittenObject,
} from '../../src/kube/object-source.contract.ts'
import { createMetrics, silentLogger } from '../../src/observability/index.ts'
import { admin, agentUser, ControlPlane, curlUserAgent, isWithoutEnvtest } from '../envtest/index.ts'
import { createLab } from '../lab/index.ts'
import { requireIsolation } from '../lab/isolation.ts'

let plane: ControlPlane

const rbac = '/apis/rbac.authorization.k8s.io/v1'
const services = '/api/v1/namespaces/default/services'
const pods = '/api/v1/namespaces/default/pods'

function startSource(config: object, sink: ObjectSink, options: Partial<ApiSourceOptions> = {}) {
  return startApiSource({
    config: kubeSchema.parse(config),
    env: {},
    sink,
    logger: silentLogger,
    metrics: createMetrics(),
    userAgent: 'edgemesh/test',
    serviceAccount: '/nonexistent',
    ...options,
  })
}

/** A source that follows the real API, with its catalog. */
async function follow(config: object, options: Partial<ApiSourceOptions> = {}) {
  const catalog = createCatalog({ debounceMs: 1 })
  const logged: string[] = []
  const logger = { ...silentLogger, info: (_fields: object, message: string) => logged.push(message) }
  const source = startSource(config, catalog, { logger, ...options })
  return {
    logged,
    catalog,
    source,
    resource: (kind: string) => source.status().resources.find((resource) => resource.kind === kind),
    /** Endpoints of a Service of the namespace `default`, as `node/address:port`. */
    endpointsOf(name: string): string[] {
      const service = catalog.current.services.get(`default/${name}`)
      const backends = service?.ports.flatMap((port) => catalog.current.backendsOf(service, port)) ?? []
      return backends.map(({ nodeName, address, port }) => `${nodeName}/${address}:${port}`)
    },
    async [Symbol.asyncDispose]() {
      await source[Symbol.asyncDispose]()
      catalog[Symbol.dispose]()
    },
  }
}

async function until(condition: () => boolean, explain: () => unknown, timeoutMs = 30_000): Promise<void> {
  const giveUpAt = performance.now() + timeoutMs
  while (!condition() && performance.now() < giveUpAt) await delay(5)
  assert.ok(condition(), JSON.stringify(explain()))
}

/** Lets a user list and watch these resources in the whole cluster, and nothing else. */
async function allow(user: string, rules: readonly object[]): Promise<AsyncDisposable> {
  const metadata = { name: `allow-${user}` }
  await plane.call('POST', `${rbac}/clusterroles`, { metadata, rules })
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name }
  const subject = user.startsWith('system:serviceaccount:')
    ? { kind: 'ServiceAccount', namespace: user.split(':')[2], name: user.split(':')[3] }
    : { kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: user }
  await plane.call('POST', `${rbac}/clusterrolebindings`, { metadata, roleRef, subjects: [subject] })
  return {
    async [Symbol.asyncDispose]() {
      await plane.call('DELETE', `${rbac}/clusterrolebindings/${metadata.name}`)
      await plane.call('DELETE', `${rbac}/clusterroles/${metadata.name}`)
    },
  }
}

const ruleOf = (apiGroup: string, ...resources: string[]) => ({
  apiGroups: [apiGroup],
  resources,
  verbs: ['list', 'watch'],
})

/** A Pod that runs and is ready, as a kubelet reports it; there is no kubelet. */
async function createReadyPod(name: string, nodeName: string, podIP: string): Promise<void> {
  const spec = { nodeName, containers: [{ name: 'main', image: 'none', ports: [{ containerPort: 8080 }] }] }
  await plane.call('POST', pods, { metadata: { name, labels: { app: 'web' } }, spec })
  const conditions = [{ type: 'Ready', status: 'True' }]
  const status = { phase: 'Running', podIP, podIPs: [{ ip: podIP }], conditions }
  await plane.call('PATCH', `${pods}/${name}/status`, { status })
}

const forced = { gracePeriodSeconds: 0 }

function registerTests(): void {
  before(async () => {
    await requireIsolation()
    plane = await ControlPlane.start({ controllers: true })
  })
  after(() => plane?.[Symbol.asyncDispose]())

  // First, because the controllers need up to a minute to recover from the restarts that follow.
  suite('from a kube-apiserver', registerChangeTests)
  describeObjectSource('a kube-apiserver', createOrigin, 45_000)
  suite('a kube-apiserver that restarts', registerRestartTests)
  suite('a kube-apiserver lets in', registerUserTests)
  test('a kube-apiserver in the cloud of a lab is reached from a node behind a NAT', reachesCloud)
}

async function reachesCloud(): Promise<void> {
  await using lab = await createLab({ cloud: ['cloud-1'], lans: { a: { nodes: ['edge-a1'] } } })
  await using cloud = await ControlPlane.start({ host: lab.node('cloud-1') })
  await cloud.call('POST', services, { metadata: { name: 'web' }, spec: { ports: [{ port: 80 }] } })
  const flags = ['-sS', '--cacert', cloud.authority.ca, '--user-agent', curlUserAgent]
  const { stdout, stderr } = await lab
    .node('edge-a1')
    .exec(['curl', ...flags, '--header', `authorization: Bearer ${admin.token}`, `${cloud.url}${services}`])
  assert.match(stdout, /"name": ?"web"/, stderr)
}

const collections: Readonly<Record<WrittenObject['kind'], string>> = {
  Service: services,
  EndpointSlice: '/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices',
  Node: '/api/v1/nodes',
  Pod: pods,
  DestinationRule: '/apis/networking.istio.io/v1beta1/namespaces/default/destinationrules',
}

/** The shared API server as an origin; what a test leaves behind is deleted. */
async function createOrigin(): Promise<OriginUnderTest> {
  const written = new Map<string, WrittenObject>()
  const pathOf = ({ kind, metadata }: WrittenObject) => `${collections[kind]}/${metadata.name}`
  const kubeConfig = await plane.writeKubeconfig('contract', { token: admin.token })
  return {
    start: async (sink, kinds) => startSource({ kubeConfig }, sink, { nodeName: 'edge-a', ...(kinds && { kinds }) }),
    async write(object) {
      const path = pathOf(object)
      if (written.has(path)) await plane.call('PATCH', path, object)
      else await plane.call('POST', collections[object.kind], object)
      written.set(path, object)
    },
    async delete(object) {
      await plane.call('DELETE', pathOf(object))
      written.delete(pathOf(object))
    },
    goAway: () => plane.killApiServer(),
    comeBack: () => plane.restartApiServer(),
    async [Symbol.asyncDispose]() {
      for (const path of written.keys()) await plane.call('DELETE', path)
      written.clear()
    },
  }
}

function registerChangeTests(): void {
  test('Pods become endpoints, and stop being them, as the controllers say', async () => {
    const kubeConfig = await plane.writeKubeconfig('pods', { token: admin.token })
    await using site = await follow({ kubeConfig })
    await plane.call('POST', services, {
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
    })
    // The controllers take no endpoint on a node that they do not know.
    for (const name of ['edge-a', 'edge-b']) await plane.call('POST', '/api/v1/nodes', { metadata: { name } })
    await createReadyPod('web-1', 'edge-a', '10.244.1.5')
    await createReadyPod('web-2', 'edge-b', '10.244.2.5')
    const explain = () => [site.endpointsOf('web'), site.source.status()]
    await until(() => site.endpointsOf('web').join() === 'edge-a/10.244.1.5:8080,edge-b/10.244.2.5:8080', explain)
    await plane.call('DELETE', `${pods}/web-1`, forced)
    await until(() => site.endpointsOf('web').join() === 'edge-b/10.244.2.5:8080', explain)
    await plane.call('PATCH', `${pods}/web-2/status`, { status: { conditions: [{ type: 'Ready', status: 'False' }] } })
    await until(() => site.endpointsOf('web').length === 0, explain)
    await plane.call('DELETE', `${pods}/web-2`, forced)
    await plane.call('DELETE', `${services}/web`)
    for (const name of ['edge-a', 'edge-b']) await plane.call('DELETE', `/api/v1/nodes/${name}`)
    await until(() => !site.catalog.current.services.has('default/web'), explain)
  })

  test('a Service is known within a second of its creation, by the median of 20', async (context) => {
    const kubeConfig = await plane.writeKubeconfig('latency', { token: admin.token })
    await using site = await follow({ kubeConfig })
    await until(
      () => site.catalog.isSynced,
      () => site.source.status(),
    )
    const times: number[] = []
    for (let at = 0; at < 20; at++) {
      const startedAt = performance.now()
      await plane.call('POST', services, { metadata: { name: `quick-${at}` }, spec: { ports: [{ port: 80 }] } })
      await until(
        () => site.catalog.current.services.has(`default/quick-${at}`),
        () => site.source.status(),
      )
      times.push(performance.now() - startedAt)
    }
    for (let at = 0; at < 20; at++) await plane.call('DELETE', `${services}/quick-${at}`)
    const median = times.sort((one, other) => one - other)[10] ?? Number.POSITIVE_INFINITY
    context.diagnostic(
      `Service created -> in the catalog: median ${median.toFixed(0)} ms, worst ${times.at(-1)?.toFixed(0)} ms`,
    )
    assert.ok(median < 1_000)
  })
}

function registerRestartTests(): void {
  test('with a compacted etcd is listed again, and nothing that is there goes missing meanwhile', async () => {
    const kubeConfig = await plane.writeKubeconfig('compacted', { token: admin.token })
    await using site = await follow({ kubeConfig })
    const create = (name: string) =>
      plane.call('POST', services, { metadata: { name }, spec: { ports: [{ port: 80 }] } })
    await create('stays')
    await create('goes')
    const has = (name: string) => site.catalog.current.services.has(`default/${name}`)
    const explain = () => [[...site.catalog.current.services.keys()], site.source.status()]
    await until(() => has('stays') && has('goes'), explain)
    let wasMissing = false
    using _watch = site.catalog.subscribe(() => {
      wasMissing ||= !has('stays')
    })
    await plane.killApiServer()
    await plane.compactEtcd()
    await plane.restartApiServer()
    await plane.call('DELETE', `${services}/goes`)
    await create('comes')
    await until(() => has('comes') && !has('goes'), explain, 60_000)
    assert.deepEqual([has('stays'), wasMissing], [true, false])
    assert.ok(
      site.logged.some((message) => message.startsWith('a watch is too old')),
      site.logged.join('\n'),
    )
    await plane.call('DELETE', `${services}/stays`)
    await plane.call('DELETE', `${services}/comes`)
  })
}

function registerUserTests(): void {
  test('the holder of a client certificate', async () => {
    const { cert, key } = await plane.authority.issue('certified', { organisation: 'system:masters' })
    const user = { 'client-certificate': cert, 'client-key': key }
    await using site = await follow({ kubeConfig: await plane.writeKubeconfig('certified', user) })
    await until(
      () => site.catalog.isSynced,
      () => site.source.status(),
    )
    assert.ok(site.catalog.current.services.has('default/kubernetes'))
  })

  test('the user of a token that is put right on disk', async () => {
    const tokenFile = join(plane.directory, 'late-token')
    await writeFile(tokenFile, 'expired')
    await using site = await follow({ kubeConfig: await plane.writeKubeconfig('late', { tokenFile }) })
    await until(
      () => site.resource('services')?.lastError?.includes('401') === true,
      () => site.source.status(),
    )
    await writeFile(tokenFile, admin.token)
    await until(
      () => site.catalog.isSynced,
      () => site.source.status(),
    )
  })

  test('a Pod with its service account', async () => {
    await using _role = await allow('system:serviceaccount:default:default', [
      ruleOf('', 'services', 'nodes'),
      ruleOf('discovery.k8s.io', 'endpointslices'),
    ])
    const serviceAccount = await mkdtemp(join(plane.directory, 'pod-'))
    await writeFile(join(serviceAccount, 'token'), await plane.serviceAccountToken('default', 'default'))
    await writeFile(join(serviceAccount, 'ca.crt'), await readFile(plane.authority.ca))
    const { hostname, port } = new URL(plane.url)
    const env = { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port }
    const config = { metaServer: { server: 'http://127.0.0.1:1' } }
    await using site = await follow(config, { env, serviceAccount })
    await until(
      () => site.catalog.isSynced,
      () => site.source.status(),
    )
    assert.equal(site.source.status().origin, 'in-cluster')
    assert.deepEqual(
      site.source.status().resources.map(({ state, notOffered }) => [state, notOffered]),
      Array.from({ length: 3 }, () => ['watching', undefined]),
    )
  })

  test('a user with the rights of the Go system, who gets endpoints without EndpointSlices and no Nodes', async () => {
    const kubeConfig = await plane.writeKubeconfig('go', { token: agentUser.token })
    await using site = await follow({ kubeConfig })
    await until(
      () => site.resource('services')?.lastError?.includes('403') === true,
      () => site.source.status(),
    )
    await using _role = await allow(agentUser.name, [ruleOf('', 'services', 'endpoints')])
    await until(
      () => site.catalog.isSynced,
      () => site.source.status(),
      60_000,
    )
    assert.deepEqual([site.resource('endpointSlices')?.apiVersion, site.resource('nodes')?.objects], ['v1', 0])
    assert.match(site.resource('nodes')?.notOffered ?? '', /403/)
    assert.deepEqual(site.catalog.current.services.get('default/kubernetes')?.clusterIPs, ['10.96.0.1'])
    assert.deepEqual(site.endpointsOf('kubernetes'), ['undefined/192.0.2.10:6443'])
  })
}

if (!isWithoutEnvtest()) registerTests()
