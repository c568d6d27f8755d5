import type { PlannedServicePort } from '../service-plan.ts'
import { questionPort } from './question.ts'
import type { AskedHere } from './reachability.ts'

const none: readonly PlannedServicePort[] = []

/**
 * What brings questions of peers, sent to addresses of endpoints here, to the socket that answers: to the rules it is a
 * UDP ServicePort with external addresses. The same list as long as `asked` is the same; empty while nobody asks.
 */
export function createAskedServicePort(
  nodeName: string,
): (asked: AskedHere | undefined) => readonly PlannedServicePort[] {
  let last: { readonly of: AskedHere; readonly planned: readonly PlannedServicePort[] } | undefined
  return (asked) => {
    if (asked === undefined) return none
    if (last?.of !== asked) last = { of: asked, planned: [plannedFor(asked, nodeName)] }
    return last.planned
  }
}

function plannedFor({ addresses, socket }: AskedHere, nodeName: string): PlannedServicePort {
  const spread = { id: 'questions of peers', direct: [{ nodeName, ...socket }], userspace: [], reserve: [] }
  const destinations = addresses.map((address) => ({ protocol: 'udp', address, port: questionPort }) as const)
  const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
  return {
    ...spread,
    destinations: [],
    policy,
    external: { protocol: 'udp', destinations, keepsSources: true, spread },
  }
}
