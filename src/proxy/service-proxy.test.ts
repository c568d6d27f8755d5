import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog } from '../catalog/index.ts'
import { AddressTakenError, type Kernel } from '../linux/index.ts'
import type { EndpointSlice, Service } from '../model/index.ts'
import { AddressInUseError, DialError, type Dialer } from '../net/index.ts'
import { createHealth, createMetrics, type LogFields, silentLogger } from '../observability/index.ts'
import type { ReadableMap } from '../runtime/index.ts'
import { proxySchema } from './config.ts'
import { createFakeIptables } from './kernel/fake-iptables.fixture.ts'
import { createFakeNft } from './kernel/fake-nft.fixture.ts'
import { allFeatures } from './kernel/iptables-features.ts'
import { iptablesRules, nftablesRules } from './kernel/kernel-rules.ts'
import { startServiceProxy } from './service-proxy.ts'
import type { ServiceProxyOptions } from './service-proxy-options.ts'
import type { UserspaceProxy, UserspaceProxyOptions, UserspaceRoute } from './userspace/userspace-proxy.ts'

const service: Service = {
  namespace: 'shop',
  name: 'web',
  labels: {},
  type: 'ClusterIP',
  clusterIPs: ['10.96.0.10'],
  headless: false,
  ports: [{ name: '', protocol: 'tcp', port: 80 }],
  publishNotReadyAddresses: false,
}

function slice(...endpoints: readonly (readonly [node: string, address: string])[]): EndpointSlice {
  return {
    namespace: 'shop',
    name: 'web',
    serviceName: 'web',
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: '', protocol: 'tcp', port: 8080 }],
    endpoints: endpoints.map(([nodeName, address]) => {
      return { addresses: [address], ready: true, serving: true, terminating: false, nodeName }
    }),
  }
}

const noDialer: Dialer = { dial: () => Promise.reject(new Error('nothing is dialled here')) }

/** Kernel and userspace proxy that write down what happens, in one list. */
function setUp(config: Record<string, unknown> = {}) {
  const events: string[] = []
  const errors: LogFields[] = []
  const failures: { apply: Error[]; device: Error | undefined; portsTaken: number; freePorts: number } = {
    apply: [],
    device: undefined,
    portsTaken: 0,
    freePorts: 0,
  }
  let told = Promise.withResolvers<void>()
  const tell = (event: string) => {
    events.push(event)
    told.resolve()
    told = Promise.withResolvers()
  }
  /** Waits until an event, past or future, was seen that often. */
  const happened = async (pattern: RegExp, times = 1): Promise<void> => {
    while (events.filter((event) => pattern.test(event)).length < times) await told.promise
  }
  const catalog = createCatalog({ debounceMs: 0, maxDelayMs: 0 })
  const health = createHealth()
  const options: ServiceProxyOptions = {
    config: proxySchema.parse({ enable: true, ...config }),
    common: { bridgeDeviceName: 'edgemesh0', bridgeDeviceIP: '169.254.96.16' },
    nodeName: 'edge-a1',
    catalog,
    dialer: noDialer,
    kernel: fakeKernel(tell, failures),
    rules: nftablesRules('as ever'),
    logger: { ...silentLogger, error: (fields) => void errors.push(fields) },
    metrics: createMetrics(),
    health,
    startUserspaceProxy: (asked) => fakeUserspaceProxy(asked, tell, failures),
  }
  return { events, errors, failures, happened, catalog, health, options }
}

function fakeKernel(
  tell: (event: string) => void,
  failures: { apply: Error[]; readonly device: Error | undefined },
): Kernel {
  const nft = createFakeNft()
  const run = async (change: { text(): string }): Promise<void> => {
    const failure = failures.apply.shift()
    if (failure !== undefined) {
      tell(`failed ${failure.message}`)
      throw failure
    }
    nft.run(change.text())
    const slots = ['slot-0', 'slot-1'].flatMap((name) => nft.elements(name).map((text) => / : (\S+)/.exec(text)?.[1]))
    tell(`apply ${slots.map((slot) => (slot?.startsWith('169.254.') ? 'userspace' : slot)).join(' ')}`)
  }
  return {
    applier: {
      check: async () => {},
      apply: run,
      update: run,
      elementsOf: async () => [],
      isInstalled: async () => true,
      way: () => 'nft',
      generation: async () => 1,
      [Symbol.dispose]() {},
    },
    network: {
      async ensureDevice(device) {
        if (failures.device !== undefined) throw failures.device
        tell(`device ${device.name} ${device.address} ${device.syntheticRange}`)
        return false
      },
      removeDevice: async () => {},
      setHostRoutes: async () => {},
      setNeighbourRoutes: async () => [],
      view: async () => ({ interfaces: [], defaultRouteInterfaces: ['eth0'], defaultGateways: [], routes: [] }),
      watch: async () => ({ [Symbol.dispose]() {} }),
      [Symbol.dispose]() {},
    },
    findIptables: async () => [],
    removeRulesBut: async () => [],
    sweepPortalChains: async () => [],
    conntrack: { forgetFlows: async () => 0, [Symbol.dispose]() {} },
    sets: { endsIn: async () => [], addressesIn: async () => new Set<string>(), [Symbol.dispose]() {} },
    firewalls: { ensureAccepts: async () => [], removeAccepts: async () => {} },
    cleanUp: async () => tell('cleaned up'),
    [Symbol.dispose]() {},
  }
}

async function fakeUserspaceProxy(
  { port }: UserspaceProxyOptions,
  tell: (event: string) => void,
  failures: { portsTaken: number; freePorts: number },
): Promise<UserspaceProxy> {
  if (failures.portsTaken > 0) {
    failures.portsTaken -= 1
    throw new AddressInUseError(`tcp 0.0.0.0:${port}`, port)
  }
  let routes: ReadableMap<UserspaceRoute> = new Map()
  const ports = [port]
  return {
    ports,
    async listenAlso(more) {
      if (failures.freePorts === 0) throw new AddressInUseError(`tcp 0.0.0.0:${more}`, more)
      failures.freePorts -= 1
      ports.push(more)
      tell(`listens also on ${more}`)
    },
    async setRoutes(wanted) {
      routes = wanted
      tell(
        `routes ${[...wanted.values()].map(({ preferred }) => preferred.map(({ address }) => address).join()).join()}`,
      )
    },
    status: () => ({ ports, routes: routes.size, openConnections: 0, datagramSessions: 0 }),
    drain: async () => tell('drained'),
    [Symbol.asyncDispose]: async () => tell('closed'),
  }
}

test('the device stands at once, but no rules are touched before the Services are known', async () => {
  const { events, happened, catalog, health, options } = setUp()
  await using proxy = await startServiceProxy(options)
  assert.deepEqual(events, ['device edgemesh0 169.254.96.16 169.254.64.0/19'])
  assert.deepEqual(health.waitingFor(), ['rules for Services'])
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-a1', '10.244.1.2'])])
  catalog.replace('services', [service])
  await happened(/^apply 10\.244\.1\.2$/)
  await happened(/^routes /)
  assert.equal(proxy.status().problem, undefined)
})

test('on a kernel without nftables rules are made with iptables, and nothing of nftables is read', async () => {
  const { events, catalog, health, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-a1', '10.244.1.2'])])
  catalog.replace('services', [service])
  const refuse = () => Promise.reject(new Error('the kernel answers EINVAL'))
  const sets = { ...options.kernel.sets, endsIn: refuse, addressesIn: refuse }
  const applier = { ...options.kernel.applier, generation: refuse, isInstalled: refuse }
  const fake = createFakeIptables()
  const rules = iptablesRules(fake, allFeatures, 'nft is missing')
  await using proxy = await startServiceProxy({ ...options, rules, kernel: { ...options.kernel, sets, applier } })
  assert.deepEqual(health.waitingFor(), [], proxy.status().problem)
  const [address = ''] = service.clusterIPs
  const packet = { destination: address, protocol: 'tcp', port: 80 } as const
  assert.match(fake.verdict('nat', 'PREROUTING', packet), /^DNAT --to-destination 10\.244\.1\.2:/)
  assert.deepEqual(proxy.status().rules, rules.status)
  assert.ok(!events.some((event) => event.startsWith('apply')))
})

test('Services that are known already have their rules when the start is done, and it is ready', async () => {
  const { events, catalog, health, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-a1', '10.244.1.2'])])
  catalog.replace('services', [service])
  await using _proxy = await startServiceProxy(options)
  assert.ok(events.includes('apply 10.244.1.2'), events.join('\n'))
  assert.deepEqual(health.waitingFor(), [])
})

test('rules that cannot be applied do not fail the start', async () => {
  const { errors, failures, catalog, health, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [])
  catalog.replace('services', [service])
  failures.apply = [new Error('no memory')]
  await using proxy = await startServiceProxy(options)
  assert.equal(errors.length, 1)
  assert.equal(proxy.status().problem, 'no memory')
  assert.deepEqual(health.waitingFor(), ['rules for Services'])
})

test('addresses that must not be intercepted are left alone as soon as they are told', async () => {
  const { happened, catalog, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-a1', '10.244.1.2'])])
  catalog.replace('services', [service])
  let excluded: ReadonlySet<string> = new Set(['192.0.2.1'])
  await using _proxy = await startServiceProxy({ ...options, excludedAddresses: () => excluded })
  await happened(/^apply 10\.244\.1\.2$/)
  excluded = new Set(['192.0.2.1', '10.96.0.10'])
  await happened(/^apply $/)
  excluded = new Set()
  await happened(/^apply 10\.244\.1\.2$/, 2)
})

test('the userspace proxy knows its routes before packets are sent there', async () => {
  const { events, happened, catalog, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-b1', '10.244.2.2'])])
  catalog.replace('services', [service])
  await using _proxy = await startServiceProxy(options)
  await happened(/^apply userspace$/)
  assert.ok(events.indexOf('routes 10.244.2.2') < events.indexOf('apply userspace'))
})

test('a change of remote endpoints changes routes and leaves the rules alone', async () => {
  const { events, happened, catalog, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-b1', '10.244.2.2'])])
  catalog.replace('services', [service])
  await using _proxy = await startServiceProxy(options)
  await happened(/^apply userspace$/)
  catalog.replace('endpointSlices', [slice(['edge-b1', '10.244.2.3'])])
  await happened(/^routes 10\.244\.2\.3$/)
  assert.equal(events.filter((event) => event.startsWith('apply')).length, 1)
})

test('draining takes the userspace slots out before it waits for connections', async () => {
  const { events, happened, catalog, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-a1', '10.244.1.2'], ['edge-b1', '10.244.2.2'])])
  catalog.replace('services', [service])
  const proxy = await startServiceProxy(options)
  await happened(/^apply 10\.244\.1\.2 userspace$/)
  await proxy.drain(AbortSignal.timeout(1_000))
  assert.ok(events.indexOf('apply 10.244.1.2') > 0)
  assert.ok(events.indexOf('apply 10.244.1.2') < events.indexOf('drained'))
  await proxy[Symbol.asyncDispose]()
  assert.equal(events.at(-1), 'closed')
})

test('onStop remove cleans up after the listener is closed', async () => {
  const { events, options } = setUp({ onStop: 'remove' })
  const proxy = await startServiceProxy(options)
  await proxy[Symbol.asyncDispose]()
  assert.deepEqual(events.slice(-2), ['closed', 'cleaned up'])
})

test('rules that fail are tried again and one problem is logged once', async () => {
  const { errors, failures, happened, catalog, options } = setUp()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-a1', '10.244.1.2'])])
  catalog.replace('services', [service])
  failures.apply = [new Error('no memory'), new Error('no memory')]
  await using _proxy = await startServiceProxy(options)
  for (const attempt of [1, 2]) {
    await happened(/^failed no memory$/, attempt)
    // News are tried at once, without waiting for the next attempt.
    catalog.put('services', { ...service, labels: { attempt: String(attempt) } })
  }
  await happened(/^apply 10\.244\.1\.2$/)
  assert.equal(errors.length, 1)
})

test('a taken port is no reason to fail while another will do', async () => {
  const { failures, options } = setUp()
  failures.portsTaken = 2
  await using proxy = await startServiceProxy(options)
  assert.notEqual(proxy.status().listenPorts[0], 0)
  assert.equal(failures.portsTaken, 0)
})

test('a configured port that is taken is an error', async () => {
  const { failures, options } = setUp({ listenPort: 40001 })
  failures.portsTaken = 1
  await assert.rejects(startServiceProxy(options), AddressInUseError)
})

test('a bridge address on another device fails the start', async () => {
  const { failures, options, events } = setUp()
  failures.device = new AddressTakenError('169.254.96.16', 'edgemesh0', 'br7')
  await assert.rejects(startServiceProxy(options), /device br7 holds that address; remove it from br7/)
  assert.deepEqual(events, [])
})

test('an endpoint here that refuses a dial gets no new packets from the kernel within a second', async () => {
  const { events, happened, catalog, options } = setUp()
  const dialers: Dialer[] = []
  const refusing: Dialer = { dial: () => Promise.reject(new DialError('refused', 'connect ECONNREFUSED')) }
  const startUserspaceProxy: ServiceProxyOptions['startUserspaceProxy'] = (asked) => {
    dialers.push(asked.dialer)
    return options.startUserspaceProxy?.(asked) ?? assert.fail()
  }
  await using _proxy = await startServiceProxy({ ...options, dialer: refusing, startUserspaceProxy })
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-a1', '10.244.1.2'], ['edge-a1', '10.244.1.3'])])
  catalog.replace('services', [service])
  await happened(/^apply .*10\.244\.1\.2.*10\.244\.1\.3/)
  const target = { protocol: 'tcp', nodeName: 'edge-a1', address: '10.244.1.2', port: 8080 } as const
  await assert.rejects(dialers[0]?.dial(target, new AbortController().signal) ?? assert.fail(), DialError)
  const before = events.length
  await happened(/^apply 10\.244\.1\.3$/)
  assert.ok(!events.slice(before).some((event) => event.includes('10.244.1.2')))
})

test('the zone of this node decides among endpoints with hints, also when it changes', async () => {
  const { happened, catalog, options } = setUp()
  await using _proxy = await startServiceProxy(options)
  const hinted = slice(['edge-a1', '10.244.1.2'], ['edge-a1', '10.244.1.3'])
  const zones = [['za'], ['zb']]
  const endpoints = hinted.endpoints.map((endpoint, index) => ({ ...endpoint, forZones: zones[index] ?? [] }))
  const node = (zone: string) => {
    return { name: 'edge-a1', labels: { 'topology.kubernetes.io/zone': zone }, internalIPs: [], podCIDRs: [] }
  }
  catalog.replace('nodes', [node('za')])
  catalog.replace('endpointSlices', [{ ...hinted, endpoints }])
  catalog.replace('services', [service])
  await happened(/^apply 10\.244\.1\.2$/)
  catalog.replace('nodes', [node('zb')])
  await happened(/^apply 10\.244\.1\.3$/)
})

test('ServicePorts that find the synthetic range full are told by status until there is room, and once by the log', async () => {
  const { errors, happened, catalog, options } = setUp({ syntheticRange: '169.254.64.0/30' })
  const port = (number: number) => ({ name: '', protocol: 'tcp', port: number }) as const
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-b1', '10.244.2.2'])])
  catalog.replace('services', [{ ...service, ports: [port(80), port(81), port(82)] }])
  await using proxy = await startServiceProxy(options)
  assert.match(proxy.status().problem ?? '', /^Cannot give 2 ServicePorts an address of 169\.254\.64\.0\/30/)
  catalog.replace('services', [{ ...service, ports: [port(80), port(81)] }])
  await happened(/^apply/, 2)
  assert.match(proxy.status().problem ?? '', /^Cannot give 1 ServicePorts/)
  assert.equal(errors.length, 1)
  catalog.replace('services', [service])
  await happened(/^apply/, 3)
  assert.equal(proxy.status().problem, undefined)
})

test('ServicePorts that find all addresses taken share them at one port more, which is opened when it is needed', async () => {
  const { events, failures, happened, catalog, options } = setUp({ syntheticRange: '169.254.64.0/30' })
  failures.freePorts = 1
  const port = (number: number) => ({ name: '', protocol: 'tcp', port: number }) as const
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slice(['edge-b1', '10.244.2.2'])])
  catalog.replace('services', [service])
  await using proxy = await startServiceProxy(options)
  const [first = 0] = proxy.status().listenPorts
  assert.deepEqual(proxy.status().listenPorts, [first])
  catalog.replace('services', [{ ...service, ports: [port(80), port(81)] }])
  await happened(/^apply/, 2)
  const { listenPorts, problem } = proxy.status()
  assert.deepEqual([listenPorts.length, problem], [2, undefined])
  assert.ok(
    events.lastIndexOf(`listens also on ${listenPorts[1]}`) < events.findLastIndex((event) => /^apply/.test(event)),
  )
  catalog.replace('services', [{ ...service, ports: [port(80), port(81), port(82)] }])
  await happened(/^apply/, 3)
  assert.match(proxy.status().problem ?? '', /^Cannot give 1 ServicePorts/)
})
