import { coveringNetworks, type NetworkFacts } from './kernel/network-facts.ts'
import type { DesiredKernelState } from './kernel/reconciler.ts'
import { type RuledServicePort, rulesetOf, type Slot } from './kernel/render-ruleset.ts'
import type { PlannedServicePort, ServicePlan } from './service-plan.ts'
import type { UserspaceRoute } from './userspace/userspace-proxy.ts'

/** All that decides what the node should do, at one moment. */
export interface ProxyInputs {
  readonly plan: ServicePlan
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
    const { plan, facts, dns } = inputs
    const ruleset = rulesetOf({
      servicePorts: new Map(plan.servicePorts.map((entry) => [entry.id, ruled(entry, inputs)])),
      syntheticRange: inputs.syntheticRange,
      listenPort: inputs.listenPort,
      dns,
      foreignInterfaces: inputs.clients === 'local' ? facts.foreignInterfaces : [],
      switchedNetworks: facts.switchedNetworks,
    })
    const isSame = last?.inputs.plan.addresses === plan.addresses && last.inputs.facts === facts
    const around = isSame && last !== undefined ? last.state : surroundingsOf(inputs)
    const state = { ruleset, accepts: around.accepts, hostRoutes: around.hostRoutes }
    last = { inputs, state }
    return state
  }
}

function surroundingsOf({ plan, facts, dns }: ProxyInputs): Pick<DesiredKernelState, 'accepts' | 'hostRoutes'> {
  return {
    accepts: { clusterNetworks: coveringNetworks(plan.addresses), dns },
    // With a default route packets to ClusterIPs find a way out and are translated on it.
    hostRoutes: facts.hasDefaultRoute ? { addresses: [] } : { addresses: plan.addresses, source: facts.nodeAddress },
  }
}

/** Routes of the userspace proxy by synthetic address. Endpoints on this node stand in when all others fail. */
export function userspaceRoutesOf(
  planned: readonly PlannedServicePort[],
  synthetic: ReadonlyMap<string, string>,
): Map<string, UserspaceRoute> {
  const routes = new Map<string, UserspaceRoute>()
  for (const { id, direct, userspace } of planned) {
    const address = synthetic.get(id)
    if (address !== undefined) routes.set(address, { id, preferred: userspace, others: direct })
  }
  return routes
}

/** Rules by plan: a plan that did not change, in circumstances that did not change, has the same rules. */
function createRuledServicePorts(): (entry: PlannedServicePort, inputs: ProxyInputs) => RuledServicePort {
  const known = new WeakMap<
    PlannedServicePort,
    { readonly proxy: Slot | undefined; readonly ruled: RuledServicePort }
  >()
  return (entry, inputs) => {
    const address = inputs.isDraining ? undefined : inputs.synthetic.get(entry.id)
    const port = inputs.listenPort
    const last = known.get(entry)
    if (last !== undefined && isSameSlot(last.proxy, address, port)) return last.ruled
    const proxy = address === undefined ? undefined : { address, port }
    const ruled = ruledServicePortOf(entry, proxy)
    known.set(entry, { proxy, ruled })
    return ruled
  }
}

const isSameSlot = (slot: Slot | undefined, address: string | undefined, port: number): boolean =>
  slot === undefined ? address === undefined : slot.address === address && slot.port === port

function ruledServicePortOf(
  { destinations, direct, userspace }: PlannedServicePort,
  proxy: Slot | undefined,
): RuledServicePort {
  const hairpins = [...new Set(direct.map((backend) => `${backend.address} . ${backend.address}`))]
  if (proxy === undefined) return { destinations, slots: direct, hairpins }
  // One slot per endpoint keeps the shares even; with no endpoint here, one slot does for all.
  const count = direct.length === 0 ? Math.min(1, userspace.length) : userspace.length
  return { destinations, slots: [...direct, ...Array.from({ length: count }, () => proxy)], hairpins }
}
