import type { NetworkView, RefusingEnd, SetReader } from '../linux/index.ts'
import { type Backend, backendIdOf } from '../model/index.ts'
import type { Logger } from '../observability/index.ts'
import { spreadsOf } from './addressed-entries.ts'
import { lookups } from './kernel/ruled-service-port.ts'
import type { PlannedServicePort } from './service-plan.ts'

/** Looks for signs of what is done with endpoints to which packets are sent unseen. */
export interface DirectEvidence {
  /**
   * Suspects endpoints that have refused connections lately, and those here when an interface was lost. Tells to which
   * addresses packets were sent.
   */
  look(view: NetworkView, served: ServedDirectly | undefined, signal: AbortSignal): Promise<void>
}

/** All that is served. */
export interface ServedDirectly {
  readonly plan: { readonly servicePorts: readonly PlannedServicePort[] }
  readonly others: readonly PlannedServicePort[]
}

interface Suspecting {
  suspect(endpoint: Backend): void
}

interface RemoteJudge extends Suspecting {
  contacted(addresses: ReadonlySet<string>): void
}

/**
 * `local` is told of endpoints on this node, `remote` of those on others. Without sets, and while they cannot be read,
 * nothing but interfaces is seen.
 */
export function createDirectEvidence(
  sets: Pick<SetReader, 'endsIn' | 'addressesIn'> | undefined,
  nodeName: string,
  { local, remote, logger }: { readonly local: Suspecting; readonly remote: RemoteJudge; readonly logger: Logger },
): DirectEvidence {
  let lastView: NetworkView | undefined
  let isBlind = false
  const read = async (signal: AbortSignal) => {
    try {
      const seen = await readSets(sets, signal)
      isBlind = false
      return seen
    } catch (error) {
      signal.throwIfAborted()
      if (!isBlind) logger.warn({ error }, 'endpoints that refuse connections are not noticed for now')
      isBlind = true
      return nothing
    }
  }
  return {
    async look(view, served, signal) {
      const isLost = hasLostInterface(lastView, view)
      lastView = view
      const { ends, contacted } = await read(signal)
      remote.contacted(contacted)
      if (served === undefined || (ends.length === 0 && !isLost)) return
      const planned = [...served.plan.servicePorts, ...served.others]
      const lost = isLost ? directEndpointsOf(planned, nodeName) : []
      for (const endpoint of [...directEndpointsAt(planned, ends), ...lost]) {
        const judge = endpoint.nodeName === nodeName ? local : remote
        judge.suspect(endpoint)
      }
    },
  }
}

interface Seen {
  readonly ends: readonly RefusingEnd[]
  readonly contacted: ReadonlySet<string>
}

const nothing: Seen = { ends: [], contacted: new Set() }

async function readSets(sets: Pick<SetReader, 'endsIn' | 'addressesIn'> | undefined, signal: AbortSignal) {
  if (sets === undefined) return nothing
  const ends = await sets.endsIn(lookups.refusing, signal)
  return { ends, contacted: await sets.addressesIn(lookups.contacted, signal) }
}

/** The TCP endpoints among these ends to which packets are sent by translation alone, each once. */
export function directEndpointsAt(
  planned: readonly PlannedServicePort[],
  ends: readonly RefusingEnd[],
): readonly Backend[] {
  if (ends.length === 0) return []
  const wanted = new Set(ends.map(({ address, port }) => `${address}:${port}`))
  return directTcpEndpoints(planned, ({ address, port }) => wanted.has(`${address}:${port}`))
}

/** The TCP endpoints on this node to which packets are sent by translation alone, each once. */
export function directEndpointsOf(planned: readonly PlannedServicePort[], nodeName: string): readonly Backend[] {
  return directTcpEndpoints(planned, (endpoint) => endpoint.nodeName === nodeName)
}

/** True when an interface is gone or went down: with it maybe a pod, whose address nobody answers for. */
export function hasLostInterface(before: NetworkView | undefined, after: NetworkView): boolean {
  const standing = new Set(after.interfaces.filter(({ isUp }) => isUp).map(({ name }) => name))
  return before?.interfaces.some(({ name, isUp }) => isUp && !standing.has(name)) === true
}

function directTcpEndpoints(planned: readonly PlannedServicePort[], isWanted: (endpoint: Backend) => boolean) {
  const tcp = planned.filter(({ destinations, external }) => {
    return (destinations[0]?.protocol ?? external?.protocol) === 'tcp'
  })
  const found = new Map<string, Backend>()
  for (const { direct } of tcp.flatMap(spreadsOf)) {
    for (const endpoint of direct) if (isWanted(endpoint)) found.set(backendIdOf(endpoint), endpoint)
  }
  return [...found.values()]
}
