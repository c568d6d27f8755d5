import type { Service, ServicePort } from '../../model/index.ts'
import { trimmed } from '../../runtime/index.ts'
import { Field } from './field.ts'
import { parseIdentity } from './metadata.ts'
import { type Note, noNote } from './note.ts'
import { parsePortNumber, parseProtocol } from './port.ts'
import { parseServiceTraffic } from './service-traffic.ts'

const serviceTypes = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'] as const

/**
 * A core/v1 Service with the API's defaults applied; throws `ObjectParseError` when its addresses or ports cannot be
 * read, and notes what else it leaves out.
 */
export function parseService(value: unknown, note: Note = noNote): Service {
  const object = new Field(value)
  const spec = object.at('spec')
  const type = parseType(spec.at('type'))
  const isExternal = type === 'ExternalName'
  const affinity = isExternal ? undefined : parseAffinitySeconds(spec)
  return {
    ...parseIdentity(object),
    labels: object.at('metadata', 'labels').textMap(),
    type,
    clusterIPs: isExternal ? [] : parseClusterIPs(spec),
    headless: !isExternal && spec.at('clusterIP').text() === 'None',
    ...(isExternal ? { externalName: parseExternalName(spec.at('externalName')) } : {}),
    ports: trimmed(spec.at('ports').items().flatMap(parseServicePort)),
    publishNotReadyAddresses: spec.at('publishNotReadyAddresses').flag(false),
    ...(affinity === undefined ? {} : { clientIPAffinitySeconds: affinity }),
    ...(isExternal ? {} : parseServiceTraffic(object, note)),
  }
}

function parseType(field: Field): Service['type'] {
  const text = field.text()
  const type = text === '' ? 'ClusterIP' : serviceTypes.find((known) => known === text)
  if (type === undefined) throw field.error(`must be one of ${serviceTypes.join(', ')}`)
  return type
}

function parseClusterIPs(spec: Field): string[] {
  const single = spec.at('clusterIP')
  if (single.text() === 'None') return []
  const listed = spec
    .at('clusterIPs')
    .items()
    .map((item) => item.ip())
  const first = single.text() === '' ? [] : [single.ip()]
  return [...new Set([...first, ...listed])]
}

function parseExternalName(field: Field): string {
  // Written with a final dot by some; upper case is allowed and means the same.
  return new Field(field.text().toLowerCase().replace(/\.$/, '') || undefined, field.path).dnsName()
}

function parseServicePort(port: Field): ServicePort[] {
  const protocol = parseProtocol(port)
  if (protocol === undefined) return []
  const nodePort = port.at('nodePort').integer(0, 65535) ?? 0
  const appProtocol = port.at('appProtocol').text()
  return [
    {
      name: port.at('name').text(),
      protocol,
      port: parsePortNumber(port.at('port')),
      ...(nodePort === 0 ? {} : { nodePort }),
      ...(appProtocol === '' ? {} : { appProtocol }),
    },
  ]
}

function parseAffinitySeconds(spec: Field): number | undefined {
  const affinity = spec.at('sessionAffinity')
  if (affinity.text() === '' || affinity.text() === 'None') return undefined
  if (affinity.text() !== 'ClientIP') throw affinity.error('must be None or ClientIP')
  return spec.at('sessionAffinityConfig', 'clientIP', 'timeoutSeconds').integer(1, 86_400) ?? 10_800
}
