import type { TcpRule, TlsRule, VirtualService, WeightedDestination } from '../../model/index.ts'
import { parseDestination, parseWeight, requireWeight } from './destination.ts'
import { Field } from './field.ts'
import { parseHostPattern } from './host-pattern.ts'
import { parseHttpRule } from './http-rule.ts'
import { parsePlace, refusePresent, refuseSources } from './match-place.ts'
import { parseCreation, parseIdentity } from './metadata.ts'
import { Notes } from './notes.ts'
import { parseReport } from './report.ts'

const specKeys = ['hosts', 'gateways', 'exportTo', 'http', 'tls', 'tcp']

/**
 * A networking.istio.io VirtualService. A rule that cannot be followed stays as one that answers with an error where
 * its match can be read, and is left out where it cannot; throws `ObjectParseError`.
 */
export function parseVirtualService(value: unknown): VirtualService {
  const object = new Field(value)
  const notes = new Notes()
  const spec = object.at('spec')
  notes.checkKeys(spec, specKeys)
  const hosts = notes.each(spec.at('hosts').items(), (host) => parseHostPattern(host))
  if (spec.at('hosts').items().length === 0) notes.problems.push('spec.hosts: is missing; write ["*"] for every host')
  const gateways = spec.at('gateways').items().map(textOf)
  return {
    ...parseIdentity(object),
    ...parseCreation(object),
    ...parseReport(object),
    hosts,
    gateways: gateways.length === 0 ? ['mesh'] : gateways,
    exportTo: spec.at('exportTo').items().map(textOf),
    http: notes.each(spec.at('http').items(), (rule, index) => parseHttpRule(rule, index, notes)),
    tls: notes.each(spec.at('tls').items(), (rule) => parseTlsRule(rule, notes)),
    tcp: notes.each(spec.at('tcp').items(), (rule) => parseTcpRule(rule, notes)),
    ignored: notes.ignored,
    problems: notes.problems,
  }
}

function parseTlsRule(field: Field, notes: Notes): TlsRule {
  notes.checkKeys(field, ['match', 'route'])
  const match = field.at('match').items()
  if (match.length === 0) throw field.at('match').error('is missing; a tls rule needs sniHosts')
  const parsed = notes.each(match, (item) => {
    refuseSources(item)
    notes.checkKeys(item, ['sniHosts', 'port', 'gateways', 'destinationSubnets', 'sourceLabels', 'sourceNamespace'])
    refusePresent(item.at('destinationSubnets'), 'cannot be told at a gateway, so this match never holds')
    const sniHosts = item
      .at('sniHosts')
      .items()
      .map((host) => parseHostPattern(host))
    if (sniHosts.length === 0) throw item.at('sniHosts').error('is missing; write the names that clients ask for')
    return { sniHosts, ...parsePlace(item) }
  })
  return { match: parsed, destinations: parseRoute(field.at('route'), notes) }
}

function parseTcpRule(field: Field, notes: Notes): TcpRule {
  notes.checkKeys(field, ['match', 'route'])
  const match = field.at('match').items()
  const parsed = notes.each(match, (item) => {
    refuseSources(item)
    notes.checkKeys(item, ['port', 'gateways', 'destinationSubnets', 'sourceSubnet', 'sourceLabels', 'sourceNamespace'])
    refusePresent(item.at('destinationSubnets'), 'cannot be told at a gateway, so this match never holds')
    refusePresent(item.at('sourceSubnet'), 'is not read, so this match never holds')
    return parsePlace(item)
  })
  const destinations = parseRoute(field.at('route'), notes)
  return match.length === 0 ? { destinations } : { match: parsed, destinations }
}

function parseRoute(field: Field, notes: Notes): WeightedDestination[] {
  const items = field.items()
  const destinations = items.map((item) => {
    notes.checkKeys(item, ['destination', 'weight'])
    return { ...parseDestination(item.at('destination'), notes), weight: parseWeight(item, items.length) }
  })
  requireWeight(field, destinations)
  return destinations
}

function textOf(field: Field): string {
  return field.text()
}
