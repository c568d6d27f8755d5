import type { ObjectKey } from '../../model/index.ts'

/**
 * The Service that a destination's host names: a short name is in the VirtualService's namespace; `name.namespace`,
 * `name.namespace.svc` and the full name are understood as well. Undefined for names outside the cluster.
 */
export function serviceKeyOf(host: string, namespace: string, clusterDomain: string): ObjectKey | undefined {
  const [name, ...rest] = host.split('.')
  if (name === undefined || name === '') return undefined
  const [own, ...tail] = rest
  if (own === undefined) return `${namespace}/${name}`
  const suffix = tail.join('.')
  const isCluster = suffix === '' || suffix === 'svc' || suffix === `svc.${clusterDomain}`
  return isCluster ? `${own}/${name}` : undefined
}
