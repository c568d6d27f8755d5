import type { ServicePortPolicy } from '../loadbalancer/index.ts'
import { differencesOf, type ReadableMap, ShardedMap } from '../runtime/index.ts'
import { type AddressedEntries, changedEntries, spreadsOf } from './addressed-entries.ts'
import { coveringNetworks, type NetworkFacts } from './kernel/network-facts.ts'
import type { DesiredKernelState } from './kernel/reconciler.ts'
import type { Choice, RuledServicePort, Slot } from './kernel/ruled-service-port.ts'
import type { PlannedServicePort, ServicePlan, Spread } from './service-plan.ts'
import { placeKeyOf, type SyntheticPlace } from './synthetic-addresses.ts'
import type { UserspaceRoute } from './userspace/userspace-proxy.ts'

/** All that decides what the node should do, at one moment. */
export interface ProxyInputs {
  readonly plan: ServicePlan
  /** Besides what is planned: endpoints that have an address of their own here, and what is refused for a while. */
  readonly others: readonly PlannedServicePort[]
  /** Synthetic places by ServicePort id. */
  readonly synthetic: ReadableMap<SyntheticPlace>
  readonly facts: NetworkFacts
  readonly syntheticRange: string
  readonly listenPorts: readonly number[]
  readonly bridgeAddress: string
  readonly dns?: { readonly address: string; readonly port: number } | undefined
  readonly clients: 'local' | 'lan'
  /** The userspace proxy takes no new connections. */
  readonly isDraining: boolean
}

/** Decides again and again: what did not change is the same object as before. */
export type DesiredStateMaker = (inputs: ProxyInputs) => DesiredKernelState

/** What the kernel should hold. */
export function createDesiredStateMaker(): DesiredStateMaker {
  const partsOf = createRuledParts()
  let last: { readonly inputs: ProxyInputs; readonly state: DesiredKernelState } | undefined
  return (inputs) => {
    const { plan, facts, dns } = inputs
    const rules = {
      servicePorts: partsOf(inputs),
      syntheticRange: inputs.syntheticRange,
      listenPorts: inputs.listenPorts,
      bridgeAddress: inputs.bridgeAddress,
      dns,
      foreignInterfaces: facts.foreignInterfaces,
      servesForeign: inputs.clients === 'lan',
      switchedNetworks: facts.switchedNetworks,
    }
    const isSame = last?.inputs.plan.addresses === plan.addresses && last.inputs.facts === facts
    const around = isSame && last !== undefined ? last.state : surroundingsOf(inputs)
    const state = { rules, accepts: around.accepts, hostRoutes: around.hostRoutes }
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

/** Routes of the userspace proxy by synthetic place. */
export function userspaceRoutesOf(
  planned: readonly PlannedServicePort[],
  synthetic: ReadableMap<SyntheticPlace>,
): Map<string, UserspaceRoute> {
  const routes = new Map<string, UserspaceRoute>()
  for (const entry of planned) {
    const protocol = entry.destinations[0]?.protocol ?? entry.external?.protocol ?? 'tcp'
    for (const { id, userspace, reserve } of spreadsOf(entry)) {
      const place = synthetic.get(id)
      if (place === undefined) continue
      routes.set(placeKeyOf(place), {
        id,
        protocol,
        place,
        preferred: userspace,
        others: reserve,
        policy: entry.policy,
      })
    }
  }
  return routes
}

/** Routes again and again; costs what changed. */
export function createRouteMaker(): (wanted: AddressedEntries) => ShardedMap<UserspaceRoute> {
  let last: (AddressedEntries & { readonly routes: ShardedMap<UserspaceRoute> }) | undefined
  return ({ entries, synthetic }) => {
    const change = last === undefined ? undefined : changedEntries(last, { entries, synthetic })
    const { removed, added } = change ?? { removed: [], added: entries }
    const routes = userspaceRoutesOf(added, synthetic)
    const gone = userspaceRoutesOf(removed, last?.synthetic ?? synthetic)
    const base = change === undefined || last === undefined ? ShardedMap.empty<UserspaceRoute>() : last.routes
    const addresses = new Set([...gone.keys(), ...routes.keys()])
    last = {
      entries,
      synthetic,
      routes: addresses.size === 0 ? base : base.updated(addresses, (at) => routes.get(at)),
    }
    return last.routes
  }
}

/** Rules by id, again and again; costs what changed. */
function createRuledParts(): (inputs: ProxyInputs) => ShardedMap<RuledServicePort> {
  const ruled = createRuledServicePorts()
  let last:
    | { readonly inputs: ProxyInputs & AddressedEntries; readonly parts: ShardedMap<RuledServicePort> }
    | undefined
  return (wanted) => {
    const inputs = { ...wanted, entries: [...wanted.plan.servicePorts, ...wanted.others] }
    const { isDraining, entries } = inputs
    const known = last?.inputs.isDraining === isDraining ? last : undefined
    const change = known === undefined ? undefined : changedEntries(known.inputs, inputs)
    const { removed, added } = change ?? { removed: [], added: entries }
    const fresh = new Map(added.map((entry) => [entry.id, ruled(entry, inputs)]))
    const base = change === undefined || known === undefined ? ShardedMap.empty<RuledServicePort>() : known.parts
    const ids = new Set([...removed.map(({ id }) => id), ...fresh.keys()])
    last = { inputs, parts: ids.size === 0 ? base : base.updated(ids, (id) => fresh.get(id)) }
    return last.parts
  }
}

/** Rules by plan: a plan that did not change, in circumstances that did not change, has the same rules. */
function createRuledServicePorts(): (entry: PlannedServicePort, inputs: ProxyInputs) => RuledServicePort {
  const known = new WeakMap<PlannedServicePort, { readonly proxies: Proxies; readonly ruled: RuledServicePort }>()
  return (entry, { synthetic, isDraining }) => {
    const inside = isDraining ? undefined : synthetic.get(entry.id)
    const outside = isDraining || entry.external === undefined ? undefined : synthetic.get(entry.external.spread.id)
    const last = known.get(entry)
    const isSame = last?.proxies.inside === inside && last?.proxies.outside === outside
    if (last !== undefined && isSame) return last.ruled
    const proxies = { inside, outside }
    const ruled = ruledServicePortOf(entry, proxies)
    known.set(entry, { proxies, ruled })
    return ruled
  }
}

/** Where the userspace proxy takes connections of a ServicePort. */
interface Proxies {
  readonly inside: SyntheticPlace | undefined
  readonly outside: SyntheticPlace | undefined
}

function ruledServicePortOf(entry: PlannedServicePort, proxies: Proxies): RuledServicePort {
  const { destinations, external } = entry
  const choice = choiceOf(entry.id, slotsOf(entry, proxies.inside), entry.policy)
  const here = [...entry.direct, ...(external?.spread.direct ?? []), ...(external?.local ?? [])]
  const hairpins = here.length === 0 ? none : [...new Set(here.map(({ address }) => [address, address].join(' . ')))]
  if (external === undefined) return { ...choice, destinations, hairpins }
  const { spread, local, protocol, nodePort, guard, keepsSources } = external
  const proxy = proxies.outside
  const outside = local && { outside: choiceOf(`${entry.id}, outside`, local, entry.policy) }
  const ruled = {
    protocol,
    destinations: external.destinations,
    nodePort,
    guard,
    keepsSources,
    choice: spread.id === entry.id ? choice : choiceOf(spread.id, slotsOf(spread, proxy), entry.policy),
    loopback: protocol === 'tcp' ? proxy : undefined,
    ...outside,
  }
  return { ...choice, destinations, hairpins, external: ruled }
}

const none: readonly string[] = []

function choiceOf(name: string, slots: readonly Slot[], policy: ServicePortPolicy): Choice {
  const { balancing, balancingRule, affinitySeconds } = policy
  if (affinitySeconds !== undefined) return { name, slots, kind: 'random', affinitySeconds }
  if (balancing.kind === 'round-robin' && balancingRule !== undefined) return { name, slots, kind: 'turns' }
  const isBySource = balancing.kind === 'consistent-hash' && balancing.key.kind === 'source-ip' && slots.length > 1
  return { name, slots, kind: isBySource ? 'source' : 'random' }
}

function slotsOf({ direct, userspace }: Spread, proxy: Slot | undefined): readonly Slot[] {
  if (proxy === undefined || userspace.length === 0) return direct
  // One slot per endpoint keeps the shares even; with no endpoint here, one slot does for all.
  if (direct.length === 0) return [proxy]
  return [...direct, ...userspace.map(() => proxy)]
}

/** New routes, and of the old ones those whose addresses the new ones do not use. */
export function bothOf(
  before: ShardedMap<UserspaceRoute> | undefined,
  after: ShardedMap<UserspaceRoute>,
): ShardedMap<UserspaceRoute> {
  if (before === undefined) return after
  const gone = [...differencesOf(before, after)].filter((one) => one.after === undefined).map(({ key }) => key)
  return gone.length === 0 ? after : after.updated(gone, (address) => before.get(address))
}

/** Whether an address does not lead where it led. */
export function hasLostRoutes(before: ReadableMap<UserspaceRoute>, after: ReadableMap<UserspaceRoute>): boolean {
  for (const one of differencesOf(before, after))
    if (one.before !== undefined && one.before.id !== one.after?.id) return true
  return false
}
