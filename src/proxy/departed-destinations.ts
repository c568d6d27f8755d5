import type { Destination, PlannedServicePort, ServicePlan } from './service-plan.ts'

/** ClusterIPs that were ours a short while ago, to be refused: nobody else answers there, least of all the internet. */
export interface DepartedDestinations {
  /**
   * What is to be refused besides the plan, the same list until it changes. `isTaken` says whether an address belongs
   * to somebody who serves it in another way.
   */
  after(plan: ServicePlan, isTaken: (address: string) => boolean): readonly PlannedServicePort[]
}

/** Clients that know an address from before ask again within this time, or never. */
const rememberedMs = 5 * 60_000
/** However many Services are deleted. */
const mostRemembered = 1_000

/** `nowMs` is a monotonic clock. */
export function createDepartedDestinations(nowMs: () => number): DepartedDestinations {
  let lastPlan: ServicePlan | undefined
  const departed = new Map<string, { readonly entry: PlannedServicePort; readonly untilMs: number }>()
  let list: readonly PlannedServicePort[] = []

  const remember = (destination: Destination): void => {
    const key = keyOf(destination)
    if (departed.size >= mostRemembered) return
    departed.set(key, { entry: refused(key, destination), untilMs: nowMs() + rememberedMs })
  }
  const notice = (plan: ServicePlan): boolean => {
    if (lastPlan?.addresses === plan.addresses) return false
    const present = new Set(destinationsIn(plan).map(keyOf))
    for (const gone of destinationsIn(lastPlan)) if (!present.has(keyOf(gone))) remember(gone)
    for (const key of departed.keys()) if (present.has(key)) departed.delete(key)
    return true
  }

  return {
    after(plan, isTaken) {
      let isNew = notice(plan)
      lastPlan = plan
      for (const [key, { entry, untilMs }] of departed) {
        if (nowMs() < untilMs && !entry.destinations.some(({ address }) => isTaken(address))) continue
        departed.delete(key)
        isNew = true
      }
      if (isNew) list = [...departed.values()].map(({ entry }) => entry)
      return list
    },
  }
}

const destinationsIn = (plan: ServicePlan | undefined): Destination[] =>
  (plan?.servicePorts ?? []).flatMap(({ destinations }) => destinations)

const keyOf = ({ protocol, address, port }: Destination): string => `departed ${protocol} ${address}:${port}`

function refused(id: string, destination: Destination): PlannedServicePort {
  const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
  return { id, destinations: [destination], direct: [], userspace: [], reserve: [], policy }
}
