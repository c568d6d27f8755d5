import type { ServicePortPolicy } from '../loadbalancer/index.ts'
import { coveringNetworks, type NetworkFacts } from './kernel/network-facts.ts'
import type { DesiredKernelState } from './kernel/reconciler.ts'
import { rulesetOf } from './kernel/render-ruleset.ts'
import type { Choice, RuledServicePort, Slot } from './kernel/ruled-service-port.ts'
import type { PlannedServicePort, ServicePlan, Spread } from './service-plan.ts'
import type { UserspaceRoute } from './userspace/userspace-proxy.ts'

/** All that decides what the node should do, at one moment. */
export interface ProxyInputs {
  readonly plan: ServicePlan
  /** Besides what is planned: endpoints that have an address of their own here, and what is refused for a while. */
  readonly others: readonly PlannedServicePort[]
  /** Synthetic addresses by ServicePort id. */
  readonly synthetic: ReadonlyMap<string, string>
  readonly facts: NetworkFacts
  readonly syntheticRange: string
  readonly listenPort: number
  readonly dns?: { readonly address: string; readonly port: number } | undefined
  readonly clients: 'local' | 'lan'
  /** The userspace proxy takes no new connections. */
  readonly isDraining: boolean
}

/** Decides again and again: what did not change is the same object as before. */
export type DesiredStateMaker = (inputs: ProxyInputs) => DesiredKernelState

/** What the kernel should hold. */
export function createDesiredStateMaker(): DesiredStateMaker {
  const ruled = createRuledServicePorts()
  let last: { readonly inputs: ProxyInputs; readonly state: DesiredKernelState } | undefined
  return (inputs) => {
    const { plan, others, facts, dns } = inputs
    const ruleset = rulesetOf({
      servicePorts: new Map([...plan.servicePorts, ...others].map((entry) => [entry.id, ruled(entry, inputs)])),
      syntheticRange: inputs.syntheticRange,
      listenPort: inputs.listenPort,
      dns,
      foreignInterfaces: facts.foreignInterfaces,
      servesForeign: inputs.clients === 'lan',
      switchedNetworks: facts.switchedNetworks,
    })
    const isSame = last?.inputs.plan.addresses === plan.addresses && last.inputs.facts === facts
    const around = isSame && last !== undefined ? last.state : surroundingsOf(inputs)
    const state = { ruleset, accepts: around.accepts, hostRoutes: around.hostRoutes }
    last = { inputs, state }
    return state
  }
}

function surroundingsOf({
  plan,
  facts,
  dns,
  syntheticRange,
}: ProxyInputs): Pick<DesiredKernelState, 'accepts' | 'hostRoutes'> {
  return {
    accepts: {
      clusterNetworks: [...coveringNetworks(plan.addresses), syntheticRange],
      external: [...plan.external, ...plan.nodePorts],
      dns,
    },
    // With a default route packets to ClusterIPs find a way out and are translated on it.
    hostRoutes: facts.hasDefaultRoute ? { addresses: [] } : { addresses: plan.addresses, source: facts.nodeAddress },
  }
}

/** Routes of the userspace proxy by synthetic address. */
export function userspaceRoutesOf(
  planned: readonly PlannedServicePort[],
  synthetic: ReadonlyMap<string, string>,
): Map<string, UserspaceRoute> {
  const routes = new Map<string, UserspaceRoute>()
  for (const entry of planned) {
    const protocol = entry.destinations[0]?.protocol ?? entry.external?.protocol ?? 'tcp'
    for (const { id, userspace, reserve } of spreadsOf(entry)) {
      const address = synthetic.get(id)
      if (address === undefined) continue
      routes.set(address, { id, protocol, preferred: userspace, others: reserve, policy: entry.policy })
    }
  }
  return routes
}

/** The spreads of a ServicePort that need a synthetic address. */
export function userspaceIdsOf(planned: readonly PlannedServicePort[]): string[] {
  const ids: string[] = []
  for (const entry of planned) {
    for (const spread of spreadsOf(entry)) if (needsUserspace(spread, entry)) ids.push(spread.id)
  }
  return ids
}

function spreadsOf(entry: PlannedServicePort): readonly Spread[] {
  const { external } = entry
  return external === undefined || external.spread.id === entry.id ? [entry] : [entry, external.spread]
}

/** Connections to a node port at a loopback address end in userspace, wherever their endpoint is. */
function needsUserspace({ id, userspace, direct }: Spread, { external }: PlannedServicePort): boolean {
  if (userspace.length > 0) return true
  return (
    direct.length > 0 && external?.spread.id === id && external.nodePort !== undefined && external.protocol === 'tcp'
  )
}

/** Rules by plan: a plan that did not change, in circumstances that did not change, has the same rules. */
function createRuledServicePorts(): (entry: PlannedServicePort, inputs: ProxyInputs) => RuledServicePort {
  const known = new WeakMap<PlannedServicePort, { readonly proxies: Proxies; readonly ruled: RuledServicePort }>()
  return (entry, { synthetic, isDraining, listenPort }) => {
    const inside = isDraining ? undefined : synthetic.get(entry.id)
    const outside = isDraining || entry.external === undefined ? undefined : synthetic.get(entry.external.spread.id)
    const last = known.get(entry)
    const isSame = last?.proxies.inside === inside && last?.proxies.outside === outside
    if (last !== undefined && isSame && last.proxies.port === listenPort) return last.ruled
    const proxies = { inside, outside, port: listenPort }
    const ruled = ruledServicePortOf(entry, proxies)
    known.set(entry, { proxies, ruled })
    return ruled
  }
}

/** Where the userspace proxy takes connections of a ServicePort. */
interface Proxies {
  readonly inside: string | undefined
  readonly outside: string | undefined
  readonly port: number
}

function ruledServicePortOf(entry: PlannedServicePort, proxies: Proxies): RuledServicePort {
  const { destinations, external } = entry
  const slotAt = (address: string | undefined) => (address === undefined ? undefined : { address, port: proxies.port })
  const choice = choiceOf(entry.id, slotsOf(entry, slotAt(proxies.inside)), entry.policy)
  const here = [...entry.direct, ...(external?.spread.direct ?? []), ...(external?.local ?? [])]
  const hairpins = [...new Set(here.map(({ address }) => `${address} . ${address}`))]
  if (external === undefined) return { ...choice, destinations, hairpins }
  const { spread, local, protocol, nodePort, guard } = external
  const proxy = slotAt(proxies.outside)
  const outside = local && { outside: choiceOf(`${entry.id}, outside`, local, entry.policy) }
  const ruled = {
    protocol,
    destinations: external.destinations,
    nodePort,
    guard,
    choice: spread.id === entry.id ? choice : choiceOf(spread.id, slotsOf(spread, proxy), entry.policy),
    loopback: protocol === 'tcp' ? proxy : undefined,
    ...outside,
  }
  return { ...choice, destinations, hairpins, external: ruled }
}

function choiceOf(name: string, slots: readonly Slot[], policy: ServicePortPolicy): Choice {
  const { balancing, balancingRule, affinitySeconds } = policy
  if (affinitySeconds !== undefined) return { name, slots, kind: 'random', affinitySeconds }
  if (balancing.kind === 'round-robin' && balancingRule !== undefined) return { name, slots, kind: 'turns' }
  const isBySource = balancing.kind === 'consistent-hash' && balancing.key.kind === 'source-ip' && slots.length > 1
  return { name, slots, kind: isBySource ? 'source' : 'random' }
}

function slotsOf({ direct, userspace }: Spread, proxy: Slot | undefined): readonly Slot[] {
  if (proxy === undefined) return direct
  // One slot per endpoint keeps the shares even; with no endpoint here, one slot does for all.
  const count = direct.length === 0 ? Math.min(1, userspace.length) : userspace.length
  return [...direct, ...Array.from({ length: count }, () => proxy)]
}
