import { coveringNetworks, type NetworkFacts } from './kernel/network-facts.ts'
import type { DesiredKernelState } from './kernel/reconciler.ts'
import { type RuledServicePort, renderRuleset } from './kernel/render-ruleset.ts'
import type { PlannedServicePort } from './service-plan.ts'
import type { UserspaceRoute } from './userspace/userspace-proxy.ts'

/** All that decides what the node should do, at one moment. */
export interface ProxyInputs {
  readonly planned: readonly PlannedServicePort[]
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

/** What the kernel should hold and what the userspace proxy should carry; pure. */
export function desiredStateOf(inputs: ProxyInputs): DesiredKernelState {
  const { planned, facts, dns } = inputs
  const addresses = new Set(planned.flatMap(({ destinations }) => destinations.map(({ address }) => address)))
  const ruleset = renderRuleset({
    servicePorts: planned.map((entry) => ruledServicePortOf(entry, inputs)),
    localBackends: planned.flatMap(({ direct }) => direct.map(({ address }) => address)),
    syntheticRange: inputs.syntheticRange,
    listenPort: inputs.listenPort,
    dns,
    foreignInterfaces: inputs.clients === 'local' ? facts.foreignInterfaces : [],
    switchedNetworks: facts.switchedNetworks,
  })
  return {
    ruleset,
    accepts: { clusterNetworks: coveringNetworks(addresses), dns },
    // With a default route packets to ClusterIPs find a way out and are translated on it.
    hostRoutes: facts.hasDefaultRoute
      ? { addresses: [] }
      : { addresses: [...addresses].sort(), source: facts.nodeAddress },
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

function ruledServicePortOf(entry: PlannedServicePort, inputs: ProxyInputs): RuledServicePort {
  const { id, destinations, direct, userspace } = entry
  const address = inputs.synthetic.get(id)
  if (address === undefined || inputs.isDraining) return { destinations, slots: direct }
  // One slot per endpoint keeps the shares even; with no endpoint here, one slot does for all.
  const count = direct.length === 0 ? Math.min(1, userspace.length) : userspace.length
  const proxy = { address, port: inputs.listenPort }
  return { destinations, slots: [...direct, ...Array.from({ length: count }, () => proxy)] }
}
