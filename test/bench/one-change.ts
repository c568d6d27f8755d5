/**
 * What one change costs the agent's own process among many Services, without kernel and sockets: `scripts/with-node
 * test/bench/one-change.ts [SERVICES] [CHANGES]`, 5000 and 200 when absent, with two ports and three endpoints each,
 * of which one is on this node. Prints processor time from the watch event until nft would be asked.
 */
import process from 'node:process'
import { createCatalog } from '../../src/catalog/index.ts'
import type { Kernel } from '../../src/linux/index.ts'
import type { EndpointSlice, Service } from '../../src/model/index.ts'
import { createHealth, createMetrics, silentLogger } from '../../src/observability/index.ts'
import { proxySchema } from '../../src/proxy/config.ts'
import { nftablesRules } from '../../src/proxy/kernel/kernel-rules.ts'
import { startServiceProxy } from '../../src/proxy/service-proxy.ts'
import { createRouteTable } from '../../src/proxy/userspace/route-table.ts'

const count = Number(process.argv[2] ?? 5_000)
const changes = Number(process.argv[3] ?? 200)

let applied = Promise.withResolvers<void>()
const catalog = createCatalog({ nodeName: 'node-0', debounceMs: 0, maxDelayMs: 0 })
catalog.replace('nodes', [])
catalog.replace('pods', [])
catalog.replace(
  'services',
  Array.from({ length: count }, (_, at) => serviceOf(at)),
)
catalog.replace(
  'endpointSlices',
  Array.from({ length: count }, (_, at) => sliceOf(at, 0)),
)
await using proxy = await startServiceProxy({
  config: proxySchema.parse({ enable: true, syntheticRange: '169.254.0.0/16' }),
  common: { bridgeDeviceName: 'edgemesh0', bridgeDeviceIP: '169.254.96.16' },
  nodeName: 'node-0',
  catalog,
  dialer: { dial: () => Promise.reject(new Error('nothing is dialled here')) },
  kernel: idleKernel(),
  rules: nftablesRules('the kernel is idle'),
  logger: silentLogger,
  metrics: createMetrics(),
  health: createHealth(),
  startUserspaceProxy: async ({ port }) => idleUserspaceProxy(port),
})
const { servicePorts, refusedServicePorts } = proxy.status()
process.stdout.write(`${servicePorts} ServicePorts, ${refusedServicePorts} of them refused\n`)
for (const round of [1, 2, 3]) {
  const before = process.cpuUsage()
  const heapBefore = process.memoryUsage()
  for (let change = 0; change < changes; change++) {
    applied = Promise.withResolvers()
    const at = (change * 37) % count
    catalog.put('endpointSlices', sliceOf(at, round))
    await applied.promise
  }
  const { user, system } = process.cpuUsage(before)
  const cpu = (user + system) / 1_000 / changes
  const { rss, heapUsed } = process.memoryUsage()
  const growth = (heapUsed - heapBefore.heapUsed) / 1e6
  process.stdout.write(
    `round ${round}, ${changes} changes: ${cpu.toFixed(2)} ms of CPU each; rss ${(rss / 1e6).toFixed(0)} MB, heap ${(heapUsed / 1e6).toFixed(0)} MB (${growth.toFixed(0)} more)\n`,
  )
}

function idleUserspaceProxy(port: number) {
  const usual = { balancing: { kind: 'random' }, readsRequests: false } as const
  const table = createRouteTable(usual, { random: Math.random, nowMs: () => performance.now() })
  const ports = [port]
  return {
    ports,
    async listenAlso(more: number) {
      ports.push(more)
    },
    async setRoutes(routes: Parameters<typeof table.replace>[0]) {
      table.replace(routes)
    },
    status: () => ({ ports, routes: table.size, openConnections: 0, datagramSessions: 0 }),
    drain: async () => {},
    [Symbol.asyncDispose]: async () => {},
  }
}

function idleKernel(): Kernel {
  const run = async () => {
    applied.resolve()
  }
  return {
    applier: {
      check: async () => {},
      apply: run,
      update: run,
      elementsOf: async () => [],
      isInstalled: async () => true,
      generation: async () => 1,
      way: () => 'netlink',
      [Symbol.dispose]() {},
    },
    network: {
      ensureDevice: async () => false,
      removeDevice: async () => {},
      setHostRoutes: async () => {},
      setNeighbourRoutes: async () => [],
      view: async () => ({ interfaces: [], defaultRouteInterfaces: ['eth0'], defaultGateways: [], routes: [] }),
      watch: async () => ({ [Symbol.dispose]() {} }),
      [Symbol.dispose]() {},
    },
    conntrack: { forgetFlows: async () => 0, [Symbol.dispose]() {} },
    sets: { endsIn: async () => [], addressesIn: async () => new Set<string>(), [Symbol.dispose]() {} },
    firewalls: { ensureAccepts: async () => [], removeAccepts: async () => {} },
    findIptables: async () => [],
    removeRulesBut: async () => [],
    sweepPortalChains: async () => [],
    cleanUp: async () => {},
    [Symbol.dispose]() {},
  }
}

function serviceOf(at: number): Service {
  return {
    namespace: `team-${at % 50}`,
    name: `service-${at}`,
    labels: {},
    type: 'ClusterIP',
    clusterIPs: [`10.96.${at >> 8}.${at & 255}`],
    headless: false,
    ports: [80, 443].map((port) => ({ name: `port-${port}`, protocol: 'tcp', port })),
    publishNotReadyAddresses: false,
  }
}

function sliceOf(at: number, round: number): EndpointSlice {
  return {
    namespace: `team-${at % 50}`,
    name: `service-${at}`,
    serviceName: `service-${at}`,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [80, 443].map((port) => ({ name: `port-${port}`, protocol: 'tcp', port: port + 8_000 })),
    endpoints: [0, 1, 2].map((which) => {
      const host = at * 3 + which + (which === 2 ? 30_000 * (round % 2) : 0)
      const nodeName = which === 2 ? 'node-0' : `node-${1 + ((at + which) % 9)}`
      const address = `10.${244 + (host >> 16)}.${(host >> 8) & 255}.${host & 255}`
      return { addresses: [address], ready: true, serving: true, terminating: false, nodeName }
    }),
  }
}
