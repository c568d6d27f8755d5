import type { Snapshot } from '../catalog/index.ts'
import { readBridgeNetfilter } from '../linux/index.ts'
import { type Endpoint, type Ipv4Network, parseIpv4Network, type Service } from '../model/index.ts'
import type { ByteStream } from '../net/index.ts'
import { createLoggedTasks, describeError } from '../observability/index.ts'
import { backoffDelayMs, sleep, type TaskGroup } from '../runtime/index.ts'
import { type Addressing, createAddressing, createFarAddressing, type FarAddressing } from './addressed-entries.ts'
import { createDepartedDestinations } from './departed-destinations.ts'
import { bothOf, createDesiredStateMaker, createRouteMaker, hasLostRoutes } from './desired-state.ts'
import { createDirectEvidence, type DirectEvidence } from './direct-evidence.ts'
import { createFarEndpointPlanner, createFarServicePorts, farEndpointIdOf } from './endpoint-plan.ts'
import { sweepFormerAgent } from './former-agent.ts'
import { createHealthChecks, type HealthChecks } from './health-checks.ts'
import { type NetworkFacts, networkFactsOf } from './kernel/network-facts.ts'
import { createKernelReconciler, type KernelReconciler } from './kernel/reconciler.ts'
import { createEndpointProbe, createSuspectingDialer, type EndpointProbe } from './l4/endpoint-probe.ts'
import { listenOnFreePort, listenOnOneMore } from './listen-on-free-port.ts'
import { createNearNodes, type NearNodes } from './near-nodes.ts'
import { createPlanOptionsMaker, type PlanOptionsMaker, zoneOf } from './plan-options.ts'
import { createRangeFullNotice, type RangeFullNotice } from './range-full-notice.ts'
import { createAskedServicePort } from './reach/asked-service-port.ts'
import type { Reachability } from './reach/reachability.ts'
import { createReachingDialer } from './reach/reaching-dialer.ts'
import { reachabilityFor } from './reachability-for.ts'
import { createServicePlanner, type PlanOptions } from './service-plan.ts'
import type { ServiceProxy, ServiceProxyOptions, ServiceProxyStatus } from './service-proxy-options.ts'
import { createSyntheticPools, type SyntheticAddresses } from './synthetic-addresses.ts'
import type { UserspaceProxy } from './userspace/userspace-proxy.ts'
import type { KnownNetwork, PlannedState, WantedState } from './wanted-state.ts'

const checkIntervalMs = 500
const burstMs = 20
const retry = { firstMs: 500, maxMs: 30_000, jitter: 0.2 }
const askedId = 'questions of peers'
const noAddresses: ReadonlySet<string> = new Set()

/**
 * Resolves when the device stands, the userspace proxy listens, and the rules are in place if the catalog knows the
 * Services already; else they follow once it does, so that rules of an earlier run are not emptied before. Rejects
 * when the user may not change the kernel or the bridge address is taken.
 */
export async function startServiceProxy(options: ServiceProxyOptions): Promise<ServiceProxy> {
  const booting = AbortSignal.timeout(30_000)
  const { kernel, config } = options
  const network = parseIpv4Network(config.syntheticRange)
  if (network === undefined) throw new Error(`Cannot use ${config.syntheticRange} as synthetic range: not a network`)
  await kernel.network.ensureDevice(deviceOf(options), booting)
  await sweepFormerAgent(kernel, { ...options.common, logger: options.logger }, booting)
  let proxy: RunningServiceProxy | undefined
  const onChange = () => proxy?.endpointsChanged()
  await using starting = new AsyncDisposableStack()
  const probe = starting.use(createEndpointProbe({ dialer: options.dialer, logger: options.logger, onChange }))
  const reachability = starting.use(reachabilityFor(options, network, onChange))
  const dialer = createSuspectingDialer(options.dialer, options.nodeName, probe)
  const userspace = starting.use(
    await listenOnFreePort(options, createReachingDialer(dialer, options.nodeName, reachability)),
  )
  proxy = new RunningServiceProxy(options, { userspace, probe, reachability }, network)
  await proxy.start(booting)
  starting.move()
  return proxy
}

const deviceOf = ({ common, config }: ServiceProxyOptions) => ({
  name: common.bridgeDeviceName,
  address: common.bridgeDeviceIP,
  syntheticRange: config.syntheticRange,
})

/** What the proxy owns from the start. */
interface CarryingParts {
  readonly userspace: UserspaceProxy
  readonly probe: EndpointProbe
  readonly reachability: Reachability
}

class RunningServiceProxy implements ServiceProxy {
  readonly #options: ServiceProxyOptions
  readonly #userspace: UserspaceProxy
  readonly #probe: EndpointProbe
  readonly #reachability: Reachability
  readonly #directEvidence: DirectEvidence
  readonly #reconciler: KernelReconciler
  readonly #synthetic: SyntheticAddresses
  readonly #endpointAddresses: SyntheticAddresses
  readonly #farEndpoints = createFarEndpointPlanner()
  readonly #farServicePorts = createFarServicePorts()
  readonly #planner = createServicePlanner()
  readonly #askedServicePort: ReturnType<typeof createAskedServicePort>
  readonly #departed = createDepartedDestinations(() => performance.now())
  readonly #desiredState = createDesiredStateMaker()
  readonly #routesOf = createRouteMaker()
  readonly #addressing: Addressing
  readonly #farAddressing: FarAddressing
  readonly #healthChecks: HealthChecks
  readonly #tasks: TaskGroup
  readonly #held = new DisposableStack()

  readonly #planOptions: PlanOptionsMaker
  readonly #nearNodes: NearNodes
  #facts: KnownNetwork | undefined
  /** What the kernel should hold, and what it holds. */
  #wanted: WantedState | undefined
  /** Some addresses may belong to nothing that is wanted. */
  #holdsUnused = true
  #current: WantedState | undefined
  #networkChanges = 0
  #isDraining = false
  readonly #rangeFull: RangeFullNotice
  #problem: string | undefined
  /** Asks for a look at everything, after a rest in which more may come. */
  #wake: (restMs: number) => void = () => {}
  #working: Promise<void> = Promise.resolve()
  #ready: Disposable

  constructor(options: ServiceProxyOptions, { userspace, probe, reachability }: CarryingParts, network: Ipv4Network) {
    const { logger, kernel, common, health, rules } = options
    this.#options = options
    this.#userspace = userspace
    this.#probe = probe
    this.#reachability = reachability
    const sets = rules.kind === 'nftables' ? kernel.sets : undefined
    this.#directEvidence = createDirectEvidence(sets, options.nodeName, { local: probe, remote: reachability, logger })
    this.#askedServicePort = createAskedServicePort(options.nodeName)
    this.#reconciler = createKernelReconciler(kernel, common.bridgeDeviceName, { logger, rules })
    const carriesDatagrams = options.datagramDialer !== undefined
    const found = { carriesDatagrams, syntheticNetwork: network, kernelLimits: rules.limits }
    const fixed = { ...options.config, ...options.config.loadBalancer, nodeName: options.nodeName, ...found }
    this.#nearNodes = createNearNodes(options.config.loadBalancer.locality === 'nearest', options.peers?.near)
    this.#planOptions = createPlanOptionsMaker(fixed)
    this.#healthChecks = createHealthChecks(logger)
    const pools = createSyntheticPools(network, () => userspace.ports)
    this.#synthetic = pools.servicePorts
    this.#addressing = createAddressing(this.#synthetic)
    this.#endpointAddresses = pools.endpoints
    this.#farAddressing = createFarAddressing(this.#endpointAddresses)
    this.#rangeFull = createRangeFullNotice(options.config.syntheticRange, logger)
    this.#tasks = createLoggedTasks(logger)
    this.#ready = health.block('rules for Services')
  }

  async start(signal: AbortSignal): Promise<void> {
    const { kernel, catalog } = this.#options
    await this.#reachability.startAnswering(this.#endpointAddresses.assign([askedId]).get(askedId)?.address)
    this.#held.use(
      await kernel.network.watch(() => {
        this.#networkChanges += 1
        this.#wake(burstMs)
      }),
    )
    // A catalog gathers its changes itself.
    this.#held.use(catalog.subscribe(() => this.#wake(0)))
    // A client that takes "ready" at its word would lose its first packet, and a second until it sends the next.
    if (catalog.isSynced) await this.#tryReconcile(signal)
    this.#tasks.run('service proxy', (stopped) => this.#keepReconciled(stopped))
  }

  status(): ServiceProxyStatus {
    const ports = this.#current?.plan.servicePorts ?? []
    const { ports: listenPorts, openConnections } = this.#userspace.status()
    const { kernel, rules } = this.#options
    return {
      rules: rules.status,
      listenPorts,
      servicePorts: ports.length,
      refusedServicePorts: ports.filter(({ direct, userspace }) => direct.length + userspace.length === 0).length,
      openConnections,
      changesBy: rules.kind === 'nftables' ? kernel.applier.way() : undefined,
      openedFirewallChains: this.#reconciler.openedChains(),
      reachability: { mode: this.#options.config.reachability, nodes: this.#reachability.status() },
      problem: this.#problem ?? this.#rangeFull.problem,
    }
  }

  endpointAddressOf(service: Service, { nodeName, addresses: [address = ''] }: Endpoint): string | undefined {
    const id = farEndpointIdOf(service, { nodeName, address }, this.#currentPlanOptions())
    // Given at once, so that no name ever leads to the address that is not reached from here.
    return id === undefined ? undefined : this.#endpointAddresses.assign([id]).get(id)?.address
  }

  /** The probe withdrew an endpoint, or took one back. */
  endpointsChanged(): void {
    this.#wake(0)
  }

  answerPeer(stream: ByteStream): void {
    this.#reachability.accept(stream)
  }

  async drain(signal: AbortSignal): Promise<void> {
    this.#isDraining = true
    await this.#tryReconcile(signal)
    await this.#userspace.drain(signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { config, kernel } = this.#options
    const soon = AbortSignal.timeout(10_000)
    this.#held.dispose()
    await this.#tasks[Symbol.asyncDispose]()
    // Slots that lead to a listener which is gone would refuse a part of the connections.
    this.#isDraining = true
    if (config.onStop === 'keep') await this.#tryReconcile(soon)
    await this.#healthChecks[Symbol.asyncDispose]()
    await this.#userspace[Symbol.asyncDispose]()
    await this.#probe[Symbol.asyncDispose]()
    await this.#reachability[Symbol.asyncDispose]()
    this.#ready[Symbol.dispose]()
    if (config.onStop === 'remove') await kernel.cleanUp(soon)
  }

  /** Reconciles after each change, and twice a second to find what others changed; slower while it fails. */
  async #keepReconciled(signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      const woken = new AbortController()
      let restMs = 0
      this.#wake = (rest) => {
        restMs = Math.max(restMs, rest)
        woken.abort()
      }
      failures = (await this.#tryReconcile(signal)) ? 0 : failures + 1
      const delayMs = failures === 0 ? checkIntervalMs : backoffDelayMs(retry, failures, Math.random)
      await sleep(delayMs, AbortSignal.any([signal, woken.signal])).catch(() => {})
      // Changes come in bursts: a new pod alone makes a link, addresses and routes.
      if (restMs > 0) await sleep(restMs, signal).catch(() => {})
    }
  }

  /** One at a time; false when it failed, which is logged once per problem. */
  async #tryReconcile(signal: AbortSignal): Promise<boolean> {
    const turn = this.#working.then(() => this.#reconcile(signal))
    this.#working = turn.catch(() => {})
    try {
      await turn
      if (this.#problem !== undefined) this.#options.logger.info({}, 'the kernel is as it should be again')
      this.#problem = undefined
      return true
    } catch (error) {
      if (signal.aborted) return false
      const problem = describeError(error)
      if (problem !== this.#problem) this.#options.logger.error({ error }, 'cannot bring rules for Services up to date')
      this.#problem = problem
      return false
    }
  }

  async #reconcile(signal: AbortSignal): Promise<void> {
    const { catalog } = this.#options
    if (!catalog.isSynced) return
    const { facts, view } = await this.#readFacts(signal)
    // Another network makes other ways at once; other endpoints are served before they are asked about.
    if (this.#current?.facts !== facts) this.#reachability.follow(catalog.current, view, facts)
    await this.#directEvidence.look(view, this.#current, signal)
    const wanted = await this.#wantedWithRoom(catalog.current, facts)
    if (wanted !== this.#current) {
      // Backends may change while the rules stay as they are. Until new rules stand the old routes are still in use.
      await this.#userspace.setRoutes(bothOf(this.#current?.routes, wanted.routes))
    }
    await this.#reconciler.reconcile(
      wanted.kernel,
      (apply) => this.#timed(apply, wanted.plan.servicePorts.length),
      signal,
    )
    if (wanted === this.#current) return
    this.#current = wanted
    await this.#userspace.setRoutes(wanted.routes)
    this.#healthChecks.set(wanted.isDraining ? [] : wanted.plan.healthChecks)
    this.#probe.keepOnly(
      (endpoint) => catalog.current.servicePortOfTarget({ protocol: 'tcp', ...endpoint }) !== undefined,
    )
    this.#releaseAddresses(wanted)
    this.#ready[Symbol.dispose]()
    if (this.#reachability.follow(wanted.snapshot, view, facts)) this.#wake(0)
  }

  #releaseAddresses({ routes, far }: WantedState): void {
    if (!this.#holdsUnused) return
    const inUse = new Set([...routes.values()].map(({ id }) => id))
    this.#synthetic.releaseAllBut(inUse)
    this.#endpointAddresses.releaseAllBut(new Set([...inUse, askedId, ...far.map(({ id }) => id)]))
    this.#holdsUnused = false
  }

  /** ServicePorts that find all places taken get more ports to listen on, as long as there are any. */
  async #wantedWithRoom(snapshot: Snapshot, facts: NetworkFacts): Promise<WantedState> {
    const { config, logger } = this.#options
    for (;;) {
      const planned = this.#plannedFor(snapshot, facts)
      const isFull = planned.missing > 0 && planned !== this.#current
      if (!isFull || !(await listenOnOneMore(this.#userspace, config.listenPort, logger))) {
        this.#rangeFull.tell(planned.missing + planned.farMissing)
        return this.#wantedFrom(planned)
      }
      this.#wanted = undefined
    }
  }

  /** The last wanted state as long as nothing changed that it depends on. */
  #plannedFor(snapshot: Snapshot, facts: NetworkFacts): PlannedState | WantedState {
    const isDraining = this.#isDraining
    const options = this.#currentPlanOptions()
    const last = this.#wanted
    const isSameNode = last?.facts === facts && last.isDraining === isDraining
    const isSamePlan = last?.snapshot === snapshot && last.options === options
    const plan = isSamePlan ? last.plan : this.#planner(snapshot, options)
    const far = isSamePlan ? last.far : this.#farEndpoints(snapshot, options)
    const departed = this.#departed.after(plan, (address) => {
      return options.excludedAddresses.has(address) || snapshot.serviceByClusterIP(address) !== undefined
    })
    const asked = this.#askedServicePort(this.#reachability.asked)
    if (isSameNode && isSamePlan && last.departed === departed && last.asked === asked) return last
    const addressed = this.#farAddressing(far)
    const { synthetic, missing } = this.#addressing(plan.servicePorts, addressed.addresses)
    const others = [...departed, ...this.#farServicePorts(far, addressed.addresses, options.reached), ...asked]
    const full = { missing, farMissing: addressed.missing }
    return { snapshot, facts, isDraining, options, plan, far, departed, asked, others, synthetic, ...full }
  }

  /** Only where all have their addresses: rules and routes of ten thousand ServicePorts are not made twice. */
  #wantedFrom(planned: PlannedState | WantedState): WantedState {
    const last = this.#wanted
    if (last !== undefined && planned === last) return last
    const { plan, others, synthetic, facts, isDraining, far } = planned
    const { config, common, dnsPort } = this.#options
    const kernel = this.#desiredState({
      plan,
      others,
      synthetic,
      facts,
      syntheticRange: config.syntheticRange,
      listenPorts: this.#userspace.ports,
      bridgeAddress: common.bridgeDeviceIP,
      dns: dnsPort === undefined ? undefined : { address: common.bridgeDeviceIP, port: dnsPort },
      clients: config.clients,
      isDraining,
    })
    const routes = this.#routesOf({ entries: [...plan.servicePorts, ...others], synthetic })
    this.#holdsUnused ||= last === undefined || last.far !== far || hasLostRoutes(last.routes, routes)
    this.#wanted = { ...planned, kernel, routes }
    return this.#wanted
  }

  /** The same object until something that decides besides the snapshot changes. */
  #currentPlanOptions(): PlanOptions {
    const { nodeName, catalog, config } = this.#options
    const zone = zoneOf(catalog.current.nodes.get(nodeName))
    const excludedAddresses = this.#options.excludedAddresses?.() ?? noAddresses
    const reached = config.clients === 'lan' ? undefined : this.#reachability.reached
    return this.#planOptions({
      zone,
      near: this.#nearNodes(catalog.current),
      withdrawn: this.#probe.withdrawn,
      reached,
      excludedAddresses,
    })
  }

  /** The same object until the network of this node changes. */
  async #readFacts(signal: AbortSignal): Promise<KnownNetwork> {
    const { kernel, common, nodeName, catalog } = this.#options
    const internalIPs = catalog.current.nodes.get(nodeName)?.internalIPs ?? []
    const bridgeNetfilter = readBridgeNetfilter()
    const basis = `${this.#networkChanges} ${bridgeNetfilter} ${internalIPs.join()}`
    if (this.#facts?.basis === basis) return this.#facts
    await kernel.network.ensureDevice(deviceOf(this.#options), signal)
    const view = await kernel.network.view(signal)
    const facts = networkFactsOf(view, { deviceName: common.bridgeDeviceName, internalIPs, bridgeNetfilter })
    this.#facts = { basis, view, facts }
    return this.#facts
  }

  async #timed(apply: () => Promise<void>, count: number): Promise<void> {
    const startedAt = performance.now()
    await apply()
    const { logger, metrics } = this.#options
    const durationMs = Math.round(performance.now() - startedAt)
    metrics.counter('ruleset_applies_total', 'Times that rules for Services were changed').add()
    metrics.gauge('service_ports', 'ServicePorts that this node intercepts').set(count)
    logger.info({ count, durationMs }, 'rules for Services are up to date')
  }
}
