import type { TrackedFlow } from '../../linux/index.ts'
import type { Protocol } from '../../model/index.ts'
import { differencesOf, type ReadableMap } from '../../runtime/index.ts'
import { choicesOf, type RuledServicePort } from './ruled-service-port.ts'

/** Rules as far as flows depend on them. */
export interface FlowRules {
  readonly parts: ReadableMap<RuledServicePort>
}

/**
 * Whether flows may go where the new ruleset would not send them; before undefined: by whoever. Of TCP, where only
 * connections without an answer matter, these are the ones to a place that is gone.
 */
export function mayHoldStaleFlows(before: FlowRules | undefined, after: FlowRules): boolean {
  for (const { before: old, after: part } of differencesOf(before?.parts ?? new Map(), after.parts)) {
    const known = part ?? old
    if (known !== undefined && (protocolOf(known) === 'udp' || hasLostPlace(old, part))) return true
  }
  return false
}

/**
 * Tells flows that the ruleset would send elsewhere: those to an endpoint that is gone, and those that began before
 * there was a rule. Of flows to ServicePorts that are gone only the translated ones are told, and so of node ports:
 * another machine may be meant.
 */
export function createStaleFlowTest(before: FlowRules | undefined, after: FlowRules): (flow: TrackedFlow) => boolean {
  const udpTest = createTest(before && targetsOf(partsOf(before, 'udp')), targetsOf(partsOf(after, 'udp')))
  const lost = [...differencesOf(before?.parts ?? new Map(), after.parts)].filter((each) =>
    hasLostPlace(each.before, each.after),
  )
  const tcpTest = createTest(
    targetsOf(lost.flatMap((each) => each.before ?? [])),
    targetsOf(lost.flatMap((each) => each.after ?? [])),
  )
  return (flow) => (flow.protocol === 'udp' ? udpTest : tcpTest)(flow)
}

function createTest(former: Targets | undefined, wanted: Targets): (flow: TrackedFlow) => boolean {
  return ({ destination, answeredBy }) => {
    const asked = nameOf(destination)
    const target = nameOf(answeredBy)
    const targets = wanted.byAddress.get(asked)
    if (targets !== undefined) return targets.size > 0 ? !targets.has(target) : asked !== target
    if (asked === target) return false
    const byPort = wanted.byPort.get(destination.port)
    if (byPort !== undefined) return !byPort.has(target)
    return former !== undefined && (former.byAddress.has(asked) || former.byPort.has(destination.port))
  }
}

function hasLostPlace(before: RuledServicePort | undefined, after: RuledServicePort | undefined): boolean {
  if (before === undefined || protocolOf(before) !== 'tcp') return false
  const kept = after === undefined ? new Set<string>() : placesOf(after)
  for (const place of placesOf(before)) if (!kept.has(place)) return true
  return false
}

interface Targets {
  readonly byAddress: ReadonlyMap<string, ReadonlySet<string>>
  readonly byPort: ReadonlyMap<number, ReadonlySet<string>>
}

function targetsOf(parts: readonly RuledServicePort[]): Targets {
  const byAddress = new Map<string, ReadonlySet<string>>()
  const byPort = new Map<number, ReadonlySet<string>>()
  for (const part of parts) {
    const targets = placesOf(part)
    for (const destination of [...part.destinations, ...(part.external?.destinations ?? [])]) {
      byAddress.set(nameOf(destination), targets)
    }
    if (part.external?.nodePort !== undefined) byPort.set(part.external.nodePort, targets)
  }
  return { byAddress, byPort }
}

const partsOf = ({ parts }: FlowRules, protocol: Protocol): RuledServicePort[] =>
  [...parts.values()].filter((part) => protocolOf(part) === protocol)

const placesOf = (part: RuledServicePort): Set<string> =>
  new Set(choicesOf(part).flatMap(({ slots }) => slots.map(nameOf)))

const protocolOf = ({ destinations, external }: RuledServicePort) => destinations[0]?.protocol ?? external?.protocol

const nameOf = ({ address, port }: { readonly address: string; readonly port: number }): string => `${address}:${port}`
