import type { Snapshot } from '../catalog/index.ts'
import type { NetworkView } from '../linux/index.ts'
import type { ReadableMap, ShardedMap } from '../runtime/index.ts'
import type { FarEndpoint } from './endpoint-plan.ts'
import type { NetworkFacts } from './kernel/network-facts.ts'
import type { DesiredKernelState } from './kernel/reconciler.ts'
import type { PlannedServicePort, PlanOptions, ServicePlan } from './service-plan.ts'
import type { SyntheticPlace } from './synthetic-addresses.ts'
import type { UserspaceRoute } from './userspace/userspace-proxy.ts'

/** What is served, and where it has its addresses. */
export interface PlannedState {
  readonly snapshot: Snapshot
  readonly facts: NetworkFacts
  readonly isDraining: boolean
  readonly options: PlanOptions
  readonly plan: ServicePlan
  readonly far: readonly FarEndpoint[]
  readonly departed: readonly PlannedServicePort[]
  readonly asked: readonly PlannedServicePort[]
  readonly others: readonly PlannedServicePort[]
  readonly synthetic: ReadableMap<SyntheticPlace>
  /** How many ServicePorts, and endpoints of headless Services, found the synthetic range full. */
  readonly missing: number
  readonly farMissing: number
}

/** What follows from a snapshot and the state of the node. */
export interface WantedState extends PlannedState {
  readonly kernel: DesiredKernelState
  readonly routes: ShardedMap<UserspaceRoute>
}

/** The network of this node, and what it was read from. */
export interface KnownNetwork {
  readonly basis: string
  readonly view: NetworkView
  readonly facts: NetworkFacts
}
