import type { PlanOptions } from './service-plan.ts'

/** What may change while the proxy runs. */
export type ChangingPlanOptions = Pick<PlanOptions, 'zone' | 'near' | 'withdrawn' | 'reached' | 'excludedAddresses'>

/** Completes the options of planning; the same object until one that may change has changed. */
export type PlanOptionsMaker = (changing: ChangingPlanOptions) => PlanOptions

/** Where a node says in which zone it is. */
const zoneLabel = 'topology.kubernetes.io/zone'

/** Remembers the last options. */
export function createPlanOptionsMaker(fixed: Omit<PlanOptions, keyof ChangingPlanOptions>): PlanOptionsMaker {
  let last: PlanOptions | undefined
  return (changing) => {
    const { zone, near, withdrawn, reached, excludedAddresses } = changing
    const isSameNode = last?.zone === zone && last?.near === near && last?.reached === reached
    const isSame = isSameNode && last?.withdrawn === withdrawn
    if (last === undefined || !isSame || last.excludedAddresses !== excludedAddresses) {
      last = { ...fixed, excludedAddresses, ...(withdrawn === undefined ? {} : { withdrawn }), reached, near, zone }
    }
    return last
  }
}

/** The zone of a node; undefined when it is not known, or says nothing. */
export function zoneOf(node: { readonly labels: Readonly<Record<string, string>> } | undefined): string | undefined {
  return node?.labels[zoneLabel]
}
