import type { UdpFlow } from '../../linux/index.ts'
import { differencesOf, type ReadableMap } from '../../runtime/index.ts'
import { choicesOf, type RuledServicePort } from './ruled-service-port.ts'

/** Rules as far as flows depend on them. */
export interface FlowRules {
  readonly parts: ReadableMap<RuledServicePort>
}

/** Whether UDP flows may go where the new ruleset would not send them; before undefined: by whoever. */
export function mayHoldStaleFlows(before: FlowRules | undefined, after: FlowRules): boolean {
  for (const { before: old, after: part } of differencesOf(before?.parts ?? new Map(), after.parts)) {
    const known = part ?? old
    if (known !== undefined && isUdp(known)) return true
  }
  return false
}

/**
 * Tells UDP flows that the ruleset would send elsewhere: those to an endpoint that is gone, and those that began before
 * there was a rule. Of flows to ServicePorts that are gone only the translated ones are told, and so of node ports:
 * another machine may be meant.
 */
export function createStaleFlowTest(before: FlowRules | undefined, after: FlowRules): (flow: UdpFlow) => boolean {
  const wanted = targetsOf(after)
  const former = before === undefined ? undefined : targetsOf(before)
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

interface Targets {
  readonly byAddress: ReadonlyMap<string, ReadonlySet<string>>
  readonly byPort: ReadonlyMap<number, ReadonlySet<string>>
}

function targetsOf({ parts }: FlowRules): Targets {
  const byAddress = new Map<string, ReadonlySet<string>>()
  const byPort = new Map<number, ReadonlySet<string>>()
  for (const part of parts.values()) {
    if (!isUdp(part)) continue
    const targets = new Set(choicesOf(part).flatMap(({ slots }) => slots.map(nameOf)))
    for (const destination of [...part.destinations, ...(part.external?.destinations ?? [])]) {
      byAddress.set(nameOf(destination), targets)
    }
    if (part.external?.nodePort !== undefined) byPort.set(part.external.nodePort, targets)
  }
  return { byAddress, byPort }
}

const isUdp = ({ destinations, external }: RuledServicePort): boolean =>
  (destinations[0]?.protocol ?? external?.protocol) === 'udp'

const nameOf = ({ address, port }: { readonly address: string; readonly port: number }): string => `${address}:${port}`
