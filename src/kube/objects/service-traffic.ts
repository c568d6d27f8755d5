import { ipv4ToNumber, numberToIpv4, type Service } from '../../model/index.ts'
import { canonicalIpOf, type Field } from './field.ts'
import { type Note, usable, usableItems } from './note.ts'

type ServiceTraffic = Pick<
  Service,
  | 'externalIPs'
  | 'loadBalancerIPs'
  | 'loadBalancerSourceRanges'
  | 'externalTrafficPolicy'
  | 'internalTrafficPolicy'
  | 'healthCheckNodePort'
  | 'trafficDistribution'
>

/** Which further addresses a Service has, and where its traffic may go. What cannot be read is left out with a note. */
export function parseServiceTraffic(object: Field, note: Note): ServiceTraffic {
  const spec = object.at('spec')
  const external = parsePolicy(spec.at('externalTrafficPolicy'), note)
  const internal = parsePolicy(spec.at('internalTrafficPolicy'), note)
  const externalIPs = usableItems(
    () => spec.at('externalIPs'),
    (item) => item.ip(),
    note,
  )
  const healthCheckNodePort = usable(() => spec.at('healthCheckNodePort').integer(0, 65535), note)
  const trafficDistribution = parseDistribution(object, note)
  return {
    ...(externalIPs.length > 0 && { externalIPs: [...new Set(externalIPs)] }),
    ...parseLoadBalancer(object, note),
    ...(external !== undefined && { externalTrafficPolicy: external }),
    ...(internal !== undefined && { internalTrafficPolicy: internal }),
    ...(external === 'Local' && healthCheckNodePort && { healthCheckNodePort }),
    ...(trafficDistribution !== undefined && { trafficDistribution }),
  }
}

function parseLoadBalancer(object: Field, note: Note): Pick<Service, 'loadBalancerIPs' | 'loadBalancerSourceRanges'> {
  const addresses = usableItems(
    () => object.at('status', 'loadBalancer', 'ingress'),
    (ingress) => {
      const ipMode = ingress.at('ipMode').text()
      if (ipMode === 'Proxy' || ingress.at('ip').isAbsent) return undefined
      if (ipMode !== '' && ipMode !== 'VIP') throw ingress.at('ipMode').error('must be VIP or Proxy')
      return ingress.at('ip').ip()
    },
    note,
  )
  if (addresses.length === 0) return {}
  const field = object.at('spec', 'loadBalancerSourceRanges')
  const ranges = usableItems(() => field, parseNetwork, note)
  // Ranges of which none can be read must not become "everybody".
  if (ranges.length === 0 && isListed(field)) return {}
  return {
    loadBalancerIPs: [...new Set(addresses)],
    ...(ranges.length > 0 && { loadBalancerSourceRanges: [...new Set(ranges)] }),
  }
}

function isListed({ value, isAbsent }: Field): boolean {
  return !isAbsent && !(Array.isArray(value) && value.length === 0)
}

/** CIDR text with canonical address; bits beyond the prefix are taken off, as the API's own programs do. */
function parseNetwork(field: Field): string {
  const [, text = '', prefix = ''] = /^\s*([^/\s]+)\/(\d{1,3})\s*$/.exec(field.text()) ?? []
  const address = canonicalIpOf(text)
  const length = Number(prefix)
  if (address === undefined || length > (address.includes(':') ? 128 : 32)) {
    throw field.error('must be a network, such as 192.0.2.0/24')
  }
  const value = ipv4ToNumber(address)
  if (value === undefined) return `${address}/${length}`
  const mask = length === 0 ? 0 : 0xffffffff << (32 - length)
  return `${numberToIpv4((value & mask) >>> 0)}/${length}`
}

/** `Cluster` is left out, because it is what absence means. */
function parsePolicy(field: Field, note: Note): 'Local' | undefined {
  return usable(() => {
    const policy = field.text()
    if (policy === 'Local') return policy
    if (policy === '' || policy === 'Cluster') return undefined
    throw field.error('must be Cluster or Local')
  }, note)
}

const distributions = new Map<string, Service['trafficDistribution']>([
  ['PreferClose', 'PreferSameZone'],
  ['PreferSameZone', 'PreferSameZone'],
  ['PreferSameNode', 'PreferSameNode'],
])

/**
 * The annotation goes before the field, as the API has it. It asks a controller for hints; nodes that prefer their
 * own zone do much the same where a cluster is too old for hints.
 */
function parseDistribution(object: Field, note: Note): Service['trafficDistribution'] {
  const wish = usable(() => {
    const annotations = object.at('metadata', 'annotations')
    const mode = annotations.at('service.kubernetes.io/topology-mode').text()
    return mode || annotations.at('service.kubernetes.io/topology-aware-hints').text()
  }, note)
  if (wish?.toLowerCase() === 'auto') return 'PreferSameZone'
  const field = object.at('spec', 'trafficDistribution')
  return usable(() => {
    const known = distributions.get(field.text())
    if (known === undefined && field.text() !== '') {
      throw field.error(`is none of ${[...distributions.keys()].join(', ')}, so traffic goes anywhere`)
    }
    return known
  }, note)
}
