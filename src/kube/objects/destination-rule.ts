import type { DestinationRule, Subset, TrafficPolicy } from '../../model/index.ts'
import { Field } from './field.ts'
import { parseIdentity } from './metadata.ts'
import { type Note, noNote, usable, usableItems } from './note.ts'
import { noteOthers, parseTrafficPolicy } from './traffic-policy.ts'

/**
 * A networking.istio.io DestinationRule, in any of its versions. Rules are written for other programs too, so only one
 * without a name is an `ObjectParseError`: what is not done here, or cannot be read, is in `ignored` and noted.
 */
export function parseDestinationRule(value: unknown, note: Note = noNote): DestinationRule {
  const ignored: string[] = []
  const ignore: Note = (problem) => {
    if (ignored.includes(problem.message)) return
    ignored.push(problem.message)
    note(problem)
  }
  const object = new Field(value)
  const identity = parseIdentity(object)
  const spec = usable(() => {
    object.at('spec').at('host')
    return object.at('spec')
  }, ignore)
  return { ...identity, ...parseSpec(spec ?? new Field(undefined, ['spec']), ignore), ignored }
}

function parseSpec(spec: Field, ignore: Note): Omit<DestinationRule, 'namespace' | 'name' | 'ignored'> {
  const host = usable(() => {
    if (spec.at('host').text() === '') throw spec.at('host').error('is missing')
    return spec.at('host').text()
  }, ignore)
  noteOthers(spec, ['host', 'exportTo', 'trafficPolicy', 'subsets'], ignore)
  const policy = spec.at('trafficPolicy')
  return {
    host: host ?? '',
    exportTo: usableItems(
      () => spec.at('exportTo'),
      (item) => item.text() || undefined,
      ignore,
    ),
    trafficPolicy: parseTrafficPolicy(policy, ignore),
    portPolicies: usableItems(
      () => policy.at('portLevelSettings'),
      (settings) => parsePortPolicy(settings, ignore),
      ignore,
    ),
    subsets: usableItems(
      () => spec.at('subsets'),
      (subset) => parseSubset(subset, ignore),
      ignore,
    ),
  }
}

function parsePortPolicy(settings: Field, ignore: Note): { port: number; trafficPolicy: TrafficPolicy } {
  const number = settings.at('port', 'number')
  const port = number.integer(1, 65535)
  if (port === undefined) throw number.error('is missing')
  return { port, trafficPolicy: parseTrafficPolicy(settings, ignore, ['port']) }
}

function parseSubset(subset: Field, ignore: Note): Subset {
  const name = subset.at('name').text()
  if (name === '') throw subset.at('name').error('is missing')
  const policy = subset.at('trafficPolicy')
  const ports = usable(() => policy.at('portLevelSettings'), ignore)
  if (ports !== undefined && !ports.isAbsent) ignore(ports.error('is not supported in a subset'))
  noteOthers(subset, ['name', 'labels', 'trafficPolicy'], ignore)
  return {
    name,
    labels: subset.at('labels').textMap(),
    ...(!policy.isAbsent && { trafficPolicy: parseTrafficPolicy(policy, ignore) }),
  }
}
