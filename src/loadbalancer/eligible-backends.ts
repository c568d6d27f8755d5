import type { Backend, Service } from '../model/index.ts'

/** Where this node is. */
export interface Here {
  readonly nodeName: string
  /** The node's own zone, from its label `topology.kubernetes.io/zone`. */
  readonly zone?: string | undefined
  /** Tells nodes that are reached over the local network, when nearer ones are preferred; absent means no preference. */
  readonly isNear?: ((nodeName: string) => boolean) | undefined
}

/** The backends that connections from this node should use. */
export interface EligibleBackends {
  readonly chosen: readonly Backend[]
  /** May stand in when all the chosen ones fail; empty where the Service forbids it. */
  readonly reserve: readonly Backend[]
}

/**
 * Which backends clients on this node use: only those on this node with `internalTrafficPolicy: Local`; those with a
 * hint for this node, or else for its zone, when every backend has such a hint (as kube-proxy does); without hints
 * those that `trafficDistribution` prefers; then the nearest, where `here.isNear` asks for that. A preference that no
 * backend meets counts as none.
 */
export function eligibleBackends(backends: readonly Backend[], service: Service, here: Here): EligibleBackends {
  if (service.internalTrafficPolicy === 'Local') return { chosen: backends.filter(isOn(here)), reserve: [] }
  const suited = narrowed(backends, [...hintsFor(backends, here), ...distributionFor(backends, service, here)])
  const chosen = narrowed(suited, nearestFirst(here))
  if (chosen.length === backends.length) return { chosen: backends, reserve: [] }
  const taken = new Set(chosen)
  return { chosen, reserve: backends.filter((backend) => !taken.has(backend)) }
}

type Preference = (backend: Backend) => boolean

/** The backends that meet the first preference which any of them meets. */
function narrowed(backends: readonly Backend[], preferences: readonly Preference[]): readonly Backend[] {
  for (const isPreferred of preferences) {
    const met = backends.filter(isPreferred)
    if (met.length > 0) return met
  }
  return backends
}

function hintsFor(backends: readonly Backend[], { nodeName, zone }: Here): Preference[] {
  const preferences: Preference[] = []
  if (haveHints(backends, 'forNodes')) preferences.push(({ forNodes }) => forNodes?.includes(nodeName) === true)
  if (zone !== undefined && haveHints(backends, 'forZones')) {
    preferences.push(({ forZones }) => forZones?.includes(zone) === true)
  }
  return preferences
}

/** A controller that gives hints has weighed the distribution already. */
function distributionFor(backends: readonly Backend[], service: Service, here: Here): Preference[] {
  const { trafficDistribution } = service
  if (trafficDistribution === undefined || haveHints(backends, 'forNodes') || haveHints(backends, 'forZones')) return []
  const isInZone: Preference = ({ zone }) => here.zone !== undefined && zone === here.zone
  return trafficDistribution === 'PreferSameNode' ? [isOn(here), isInZone] : [isInZone]
}

/** Endpoints outside the cluster are dialled by this node itself, which is as near as the local network. */
function nearestFirst({ nodeName, isNear }: Here): Preference[] {
  if (isNear === undefined) return []
  return [isOn({ nodeName }), (backend) => backend.nodeName === undefined || isNear(backend.nodeName)]
}

function isOn({ nodeName }: Pick<Here, 'nodeName'>): Preference {
  return (backend) => backend.nodeName === nodeName
}

function haveHints(backends: readonly Backend[], hints: 'forNodes' | 'forZones'): boolean {
  return backends.every((backend) => (backend[hints]?.length ?? 0) > 0)
}
