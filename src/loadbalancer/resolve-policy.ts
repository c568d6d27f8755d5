import {
  type Backend,
  type BalancingPolicy,
  type DestinationRule,
  keyOf,
  type Locality,
  type OutlierDetection,
  readsRequests,
  type Service,
  type ServicePort,
  type Subset,
  servicePortIdOf,
  type TrafficPolicy,
} from '../model/index.ts'

/** What holds where nobody asks for anything else. */
export interface PolicyDefaults {
  readonly balancing: BalancingPolicy
}

/** How connections to one ServicePort, or to one subset of it, are spread and dialled. */
export interface ResolvedPolicy {
  readonly balancing: BalancingPolicy
  /** `namespace/name` of the DestinationRule that chose `balancing`; absent when it is the default. */
  readonly balancingRule?: string
  /** Following `balancing` takes reading HTTP requests; true only for HTTP/1.1 ServicePorts. */
  readonly readsRequests: boolean
  /** A client keeps its backend for this long after its last connection; `balancing` is for its first one. */
  readonly affinitySeconds?: number
  readonly outlierDetection?: OutlierDetection
  readonly connectTimeoutMs?: number
  /** Connections from this node at a time. */
  readonly maxConnections?: number
  /** Absent leaves it to the node whether near backends come first. */
  readonly locality?: Locality
}

/** The policy of one ServicePort, its subsets by name, and what was asked for and is not done. */
export interface ServicePortPolicy extends ResolvedPolicy {
  readonly subsets: ReadonlyMap<string, Subset & { readonly policy: ResolvedPolicy }>
  /** Sentences for the log. */
  readonly notices: readonly string[]
}

/**
 * Which policy holds for a ServicePort. `rules` are those that apply to its Service, the one that counts first; of the
 * others only subsets are taken, as Istio merges rules of one host. A policy of the port replaces the rule's whole
 * policy; a subset replaces balancing, outlier detection and connection limits each as a whole. The Service's own
 * session affinity wins over every rule's balancing.
 */
export function resolvePolicy(
  service: Service,
  port: ServicePort,
  rules: readonly DestinationRule[],
  defaults: PolicyDefaults,
): ServicePortPolicy {
  const asksForNothing = rules.length === 0 && service.clientIPAffinitySeconds === undefined
  return asksForNothing ? usualPolicyOf(defaults) : policyByRules(service, port, rules, defaults)
}

function policyByRules(
  service: Service,
  port: ServicePort,
  rules: readonly DestinationRule[],
  defaults: PolicyDefaults,
): ServicePortPolicy {
  const notices = new Set<string>()
  const [rule] = rules
  const context = { service, port, defaults, notices }
  const wanted = rule === undefined ? {} : trafficPolicyFor(rule, port)
  const subsets = new Map<string, Subset & { readonly policy: ResolvedPolicy }>()
  for (const owner of rules) {
    for (const text of owner.ignored) notices.add(`DestinationRule ${keyOf(owner)}: ${text}`)
    if (owner !== rule && hasOwnPolicy(owner)) {
      notices.add(`DestinationRule ${keyOf(owner)}: its policy is ignored, because ${ruleName(rule)} has the same host`)
    }
    for (const subset of owner.subsets) {
      if (subsets.has(subset.name)) continue
      const policy = settle(mergedWith(wanted, subset.trafficPolicy), owner, context)
      subsets.set(subset.name, { ...subset, policy })
    }
  }
  return { ...settle(wanted, rule, context), subsets, notices: [...notices] }
}

/** Of Services that ask for nothing, which are most: one object for all that have the same defaults. */
function usualPolicyOf(defaults: PolicyDefaults): ServicePortPolicy {
  const known = usualPolicies.get(defaults)
  if (known !== undefined) return known
  const usual = { balancing: defaults.balancing, readsRequests: false, subsets: new Map(), notices: [] }
  usualPolicies.set(defaults, usual)
  return usual
}

const usualPolicies = new WeakMap<PolicyDefaults, ServicePortPolicy>()

/** The backends whose Pods carry all labels of the subset; one without a known Pod is in none that asks for labels. */
export function backendsInSubset(
  backends: readonly Backend[],
  subset: Pick<Subset, 'labels'>,
  labelsOf: (backend: Backend) => Readonly<Record<string, string>> | undefined,
): readonly Backend[] {
  const wanted = Object.entries(subset.labels)
  return backends.filter((backend) => {
    const labels = wanted.length === 0 ? {} : labelsOf(backend)
    return labels !== undefined && wanted.every(([name, value]) => labels[name] === value)
  })
}

/** True for ServicePorts that say they speak HTTP/1.1 in clear, by `appProtocol` or else by name. */
export function isHttpPort({ name, protocol, appProtocol }: ServicePort): boolean {
  if (protocol !== 'tcp') return false
  if (appProtocol !== undefined) return httpAppProtocols.has(appProtocol.toLowerCase())
  return name === 'http' || name.startsWith('http-')
}

const httpAppProtocols: ReadonlySet<string> = new Set(['http', 'http1', 'http/1.1', 'ws', 'kubernetes.io/ws'])

function trafficPolicyFor(rule: DestinationRule, port: ServicePort): TrafficPolicy {
  return rule.portPolicies.find((entry) => entry.port === port.port)?.trafficPolicy ?? rule.trafficPolicy
}

function mergedWith(base: TrafficPolicy, own: TrafficPolicy | undefined): TrafficPolicy {
  if (own === undefined) return base
  const limits = own.maxConnections === undefined && own.connectTimeoutMs === undefined ? base : own
  return {
    ...optional('loadBalancer', own.loadBalancer ?? base.loadBalancer),
    ...optional('locality', own.locality ?? base.locality),
    ...optional('outlierDetection', own.outlierDetection ?? base.outlierDetection),
    ...optional('maxConnections', limits.maxConnections),
    ...optional('connectTimeoutMs', limits.connectTimeoutMs),
  }
}

interface Context {
  readonly service: Service
  readonly port: ServicePort
  readonly defaults: PolicyDefaults
  readonly notices: Set<string>
}

/** Turns what a rule wants into what is done. */
function settle(wanted: TrafficPolicy, rule: DestinationRule | undefined, context: Context): ResolvedPolicy {
  const { service, port, defaults, notices } = context
  const refusal = reasonAgainst(wanted.loadBalancer, service, port)
  if (refusal !== undefined) notices.add(`DestinationRule ${ruleName(rule)}: ${refusal}`)
  const balancing = refusal === undefined ? wanted.loadBalancer : undefined
  return {
    balancing: balancing ?? defaults.balancing,
    ...(balancing === undefined || rule === undefined ? {} : { balancingRule: keyOf(rule) }),
    readsRequests: balancing !== undefined && readsRequests(balancing),
    ...optional('affinitySeconds', service.clientIPAffinitySeconds),
    ...optional('outlierDetection', wanted.outlierDetection),
    ...optional('connectTimeoutMs', wanted.connectTimeoutMs),
    ...optional('maxConnections', wanted.maxConnections),
    ...optional('locality', wanted.locality),
  }
}

/** Why a rule's balancing cannot hold here; undefined when it can, or when it has none. */
function reasonAgainst(balancing: BalancingPolicy | undefined, service: Service, port: ServicePort) {
  if (balancing === undefined) return undefined
  if (service.clientIPAffinitySeconds !== undefined) {
    return `its loadBalancer is ignored, because Service ${keyOf(service)} has sessionAffinity ClientIP`
  }
  if (!readsRequests(balancing) || isHttpPort(port)) return undefined
  return (
    `its consistentHash is ignored for ${servicePortIdOf(service, port)}, which is not HTTP; ` +
    'name the port http-..., or set its appProtocol to http'
  )
}

function hasOwnPolicy({ trafficPolicy, portPolicies }: DestinationRule): boolean {
  return portPolicies.length > 0 || Object.keys(trafficPolicy).length > 0
}

function ruleName(rule: DestinationRule | undefined): string {
  return rule === undefined ? '' : keyOf(rule)
}

/** An object with the field, or without it when there is no value. */
function optional<K extends string, V>(name: K, value: V | undefined): { readonly [name in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [name in K]?: V })
}
