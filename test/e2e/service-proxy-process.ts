/**
 * The part of an agent that intercepts, as a process of its own: `service-proxy-process.ts FILE`. FILE holds a
 * `ProxyScene` as JSON and is read again on SIGHUP. Prints `ready` once the rules stand and `status {...}` after
 * each SIGUSR2; SIGTERM drains and stops as the agent does. Remote endpoints are dialled without a tunnel.
 */
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { createCatalog } from '../../src/catalog/index.ts'
import { openKernel } from '../../src/linux/index.ts'
import type { DestinationRule, EndpointSlice, Service } from '../../src/model/index.ts'
import { createDirectDatagramDialer, createDirectDialer } from '../../src/net/index.ts'
import { createHealth, createLogger, createMetrics } from '../../src/observability/index.ts'
import { proxySchema } from '../../src/proxy/config.ts'
import { chooseKernelRules, startServiceProxy, tableName } from '../../src/proxy/index.ts'
import { loadBuiltNative } from './support/native.ts'

/** What the node under test knows. */
export interface ProxyScene {
  readonly nodeName: string
  /** Keys of `modules.edgeProxy`. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly services: readonly SceneService[]
  /** DestinationRules that say how connections to a Service are spread. */
  readonly rules?: readonly Pick<DestinationRule, 'host' | 'trafficPolicy'>[]
}

/** A Service with one port, of TCP unless it says otherwise. */
export interface SceneService {
  readonly name: string
  readonly protocol?: 'tcp' | 'udp'
  readonly clusterIP: string
  readonly port: number
  readonly nodePort?: number
  /** What else the Service says. */
  readonly fields?: Partial<Service>
  readonly backends: readonly { readonly node: string; readonly address: string; readonly port: number }[]
}

const file = process.argv[2] ?? ''
const readScene = (): ProxyScene => JSON.parse(readFileSync(file, 'utf8'))
const scene = readScene()
const logger = createLogger('debug')
const health = createHealth()
const common = { bridgeDeviceName: 'edgemesh0', bridgeDeviceIP: '169.254.96.16' }

await using running = new AsyncDisposableStack()
const kernel = running.use(
  await openKernel({ table: tableName, deviceName: common.bridgeDeviceName }, logger, loadBuiltNative()),
)
const catalog = running.use(createCatalog())
catalog.replace('nodes', [])
fill(scene)
const config = proxySchema.parse({ enable: true, ...scene.config })
const rules = await chooseKernelRules(kernel, config.kernel, { logger }, AbortSignal.timeout(30_000))
const proxy = running.use(
  await startServiceProxy({
    config,
    rules,
    common,
    nodeName: scene.nodeName,
    dnsPort: 53,
    catalog,
    dialer: createDirectDialer(),
    datagramDialer: createDirectDatagramDialer(),
    kernel,
    logger,
    metrics: createMetrics(),
    health,
  }),
)
process.on('SIGHUP', () => fill(readScene()))
process.on('SIGUSR2', () => console.log(`status ${JSON.stringify(proxy.status())}`))
const stopped = new Promise<void>((resolve) => process.once('SIGTERM', () => resolve()))
while (health.waitingFor().length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
console.log('ready')
const keepAlive = setInterval(() => {}, 60_000)
await stopped
clearInterval(keepAlive)
await proxy.drain(AbortSignal.timeout(1_000))

function fill({ services, rules = [] }: ProxyScene): void {
  catalog.replace('destinationRules', rules.map(ruleOf))
  catalog.replace('services', services.map(serviceOf))
  catalog.replace('endpointSlices', services.flatMap(slicesOf))
}

function ruleOf({ host, trafficPolicy }: Pick<DestinationRule, 'host' | 'trafficPolicy'>): DestinationRule {
  const empty = { exportTo: [], portPolicies: [], subsets: [], ignored: [] }
  return { namespace: 'shop', name: host, host, trafficPolicy, ...empty }
}

function serviceOf({ name, clusterIP, port, protocol = 'tcp', nodePort, fields }: SceneService): Service {
  return {
    namespace: 'shop',
    name,
    labels: {},
    type: 'ClusterIP',
    clusterIPs: [clusterIP],
    headless: false,
    ports: [{ name: 'main', protocol, port, ...(nodePort !== undefined && { nodePort }) }],
    publishNotReadyAddresses: false,
    ...fields,
  }
}

function slicesOf({ name, backends, protocol = 'tcp' }: SceneService): EndpointSlice[] {
  return backends.map(({ node, address, port }, index) => ({
    namespace: 'shop',
    name: `${name}-${index}`,
    serviceName: name,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: 'main', protocol, port }],
    endpoints: [{ addresses: [address], ready: true, serving: true, terminating: false, nodeName: node }],
  }))
}
