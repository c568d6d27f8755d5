import type { Snapshot } from '../../catalog/index.ts'
import {
  type Balancer,
  backendsInSubset,
  createBalancer,
  eligibleBackends,
  type Here,
  type ResolvedPolicy,
  resolvePolicy,
} from '../../loadbalancer/index.ts'
import {
  type Backend,
  backendIdOf,
  type Destination,
  type ObjectKey,
  type Service,
  type ServicePort,
  servicePortIdOf,
} from '../../model/index.ts'
import { serviceKeyOf } from '../routing/destination.ts'
import type { UpstreamProtocol } from './connection-pool.ts'

/** What holds where no DestinationRule asks for anything else. */
const policyDefaults = { balancing: { kind: 'round-robin' } } as const

/** A destination with backends, as requests use it. */
export interface BackendGroup {
  /** `shop/web:http/tcp`, with the subset where there is one. */
  readonly id: string
  readonly service: Service
  readonly balancer: Balancer
  readonly policy: ResolvedPolicy
  readonly protocol: UpstreamProtocol
  /** False while nobody can serve it. */
  readonly hasBackends: boolean
}

/** A destination that leads nowhere now; the reason is for people. */
export interface NoGroup {
  readonly problem: string
}

/** A destination and the namespace of the VirtualService that names it. */
export interface OwnedDestination {
  readonly destination: Destination
  readonly namespace: string
}

/** What destinations are resolved with. */
export interface DestinationsOptions {
  readonly current: () => Snapshot
  readonly nodeName: string
  readonly clusterDomain: string
  readonly ring: { readonly partitionCount: number; readonly replicationFactor: number; readonly load: number }
}

interface GroupState extends BackendGroup {
  readonly isHttp: boolean
  service: Service
  policy: ResolvedPolicy
  protocol: UpstreamProtocol
  hasBackends: boolean
  snapshot: Snapshot
  backends: readonly Backend[]
}

/** Finds the backends of destinations. Groups are made at first use and brought up to date when they are used. */
export class Destinations {
  readonly #options: DestinationsOptions
  readonly #groups = new Map<string, GroupState>()
  /** Where destinations of requests led last: they do not change, and belong to one VirtualService. */
  readonly #recent = new WeakMap<Destination, GroupState>()

  constructor(options: DestinationsOptions) {
    this.#options = options
  }

  /** The group of a destination of a VirtualService in that namespace. */
  resolve(destination: Destination, namespace: string, isHttp: boolean): BackendGroup | NoGroup {
    const recent = this.#recent.get(destination)
    if (recent !== undefined && recent.snapshot === this.#options.current() && recent.isHttp === isHttp) return recent
    const group = this.#resolve(destination, namespace, isHttp)
    if (!('problem' in group)) this.#recent.set(destination, group)
    return group
  }

  #resolve(destination: Destination, namespace: string, isHttp: boolean): GroupState | NoGroup {
    const id = groupIdOf(destination, namespace, isHttp)
    const known = this.#groups.get(id)
    const snapshot = this.#options.current()
    if (known?.snapshot === snapshot) return known
    const found = this.#find(snapshot, destination, namespace)
    if ('problem' in found) {
      this.#groups.delete(id)
      return found
    }
    const group = known ?? this.#create(snapshot, destination, { ...found, isHttp })
    this.#groups.set(id, group)
    const problem = this.#refresh(group, snapshot, { destination, ...found, isHttp })
    if (problem !== undefined) this.#groups.delete(id)
    return problem ?? group
  }

  /** Why destinations of these objects lead nowhere, for status; the empty list when all lead somewhere. */
  problemOf(destination: Destination, namespace: string): string | undefined {
    const group = this.resolve(destination, namespace, true)
    return 'problem' in group ? group.problem : undefined
  }

  /** Every backend that some group may use now. */
  backendIds(): ReadonlySet<string> {
    return new Set([...this.#groups.values()].flatMap(({ backends }) => backends.map(backendIdOf)))
  }

  /** Forgets groups that no rule leads to any more: each holds on to the snapshot that it was used with last. */
  keepOnly(wanted: Iterable<OwnedDestination>): void {
    const ids = new Set<string>()
    for (const { destination, namespace } of wanted) {
      for (const isHttp of [true, false]) ids.add(groupIdOf(destination, namespace, isHttp))
    }
    for (const id of this.#groups.keys()) if (!ids.has(id)) this.#groups.delete(id)
  }

  /** Forgets groups whose Service is gone. */
  prune(): void {
    const { services } = this.#options.current()
    for (const [id, { service }] of this.#groups) {
      if (!services.has(`${service.namespace}/${service.name}`)) this.#groups.delete(id)
    }
  }

  #find(snapshot: Snapshot, { host, port }: Destination, namespace: string): NoGroup | FoundPort {
    const key = serviceKeyOf(host, namespace, this.#options.clusterDomain)
    const service = key === undefined ? undefined : snapshot.services.get(key)
    if (service === undefined) return { problem: noServiceText(host, key) }
    if (service.type === 'ExternalName') return { problem: `Service ${key} is an ExternalName and has no endpoints` }
    const ports = service.ports.filter(({ protocol }) => protocol === 'tcp')
    const servicePort = port === undefined ? onlyOf(ports) : ports.find((candidate) => candidate.port === port)
    if (servicePort !== undefined) return { service, servicePort }
    if (port !== undefined) return { problem: `Service ${key} has no TCP port ${port}` }
    return { problem: `Service ${key} has ${ports.length} TCP ports, so the destination must name one` }
  }

  #create(
    snapshot: Snapshot,
    { subset }: Destination,
    { service, servicePort, isHttp }: FoundPort & Pick<Wanted, 'isHttp'>,
  ): GroupState {
    const { random } = Math
    const policy: ResolvedPolicy = { balancing: { kind: 'round-robin' }, readsRequests: false }
    const surroundings = { random, nowMs: () => performance.now(), ring: this.#options.ring }
    return {
      id: servicePortIdOf(service, servicePort) + (subset === undefined ? '' : `/${subset}`),
      service,
      balancer: createBalancer(policy, surroundings),
      policy,
      protocol: 'http1',
      hasBackends: false,
      isHttp,
      snapshot,
      backends: [],
    }
  }

  /** Brings a group up to the snapshot; the problem when its subset is not one. */
  #refresh(group: GroupState, snapshot: Snapshot, found: FoundPort & Wanted): NoGroup | undefined {
    const { service, servicePort, destination, isHttp } = found
    // Requests are read here whatever the port is called, so policies that look at them can be followed.
    const port = isHttp ? { ...servicePort, appProtocol: 'http' } : servicePort
    const rules = snapshot.destinationRulesOf(service)
    const whole = resolvePolicy(service, port, rules, policyDefaults)
    const subset = destination.subset === undefined ? undefined : whole.subsets.get(destination.subset)
    if (destination.subset !== undefined && subset === undefined) {
      return {
        problem: `no DestinationRule of Service ${service.namespace}/${service.name} has the subset ${destination.subset}`,
      }
    }
    const all = snapshot.backendsOf(service, servicePort)
    const labelsOf = ({ podNamespace, podName }: Backend) => {
      return podNamespace === undefined || podName === undefined
        ? undefined
        : snapshot.podOf(podNamespace, podName)?.labels
    }
    const backends = subset === undefined ? all : backendsInSubset(all, subset, labelsOf)
    const { chosen, reserve } = eligibleBackends(backends, service, this.#hereIn(snapshot))
    const policy = subset?.policy ?? whole
    group.balancer.setPolicy(policy)
    group.balancer.setBackends(chosen, reserve)
    Object.assign(group, { service, policy, snapshot, backends, hasBackends: chosen.length + reserve.length > 0 })
    group.protocol = speaksHttp2(servicePort) ? 'http2' : 'http1'
    return undefined
  }

  #hereIn(snapshot: Snapshot): Here {
    const { nodeName } = this.#options
    return { nodeName, zone: snapshot.nodes.get(nodeName)?.labels['topology.kubernetes.io/zone'] }
  }
}

function groupIdOf({ host, port, subset }: Destination, namespace: string, isHttp: boolean): string {
  return `${namespace}|${host}|${port ?? ''}|${subset ?? ''}|${isHttp}`
}

interface FoundPort {
  readonly service: Service
  readonly servicePort: ServicePort
}

interface Wanted {
  readonly destination: Destination
  readonly isHttp: boolean
}

function noServiceText(host: string, key: ObjectKey | undefined): string {
  return key === undefined ? `${host} is no name of a Service in this cluster` : `there is no Service ${key}`
}

function onlyOf(ports: readonly ServicePort[]): ServicePort | undefined {
  return ports.length === 1 ? ports[0] : undefined
}

const http2AppProtocols: ReadonlySet<string> = new Set(['http2', 'grpc', 'h2c', 'kubernetes.io/h2c'])

/** Told by `appProtocol`, else by the name of the port, as everywhere in Istio. */
function speaksHttp2({ name, appProtocol }: ServicePort): boolean {
  if (appProtocol !== undefined) return http2AppProtocols.has(appProtocol.toLowerCase())
  return /^(http2|grpc|h2c)(-|$)/.test(name)
}
