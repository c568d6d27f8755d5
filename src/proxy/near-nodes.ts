import type { Snapshot } from '../catalog/index.ts'

/** Who is near now; the same set as long as they are the same, and undefined where nobody asks for nearness. */
export type NearNodes = (snapshot: Snapshot) => ReadonlySet<string> | undefined

/** `current` is asked no more than is needed: not at all unless the node, or a rule, prefers what is near. */
export function createNearNodes(isPreferredHere: boolean, current: (() => ReadonlySet<string>) | undefined): NearNodes {
  let rules: { readonly of: Snapshot['destinationRules']; readonly ask: boolean } | undefined
  let last: ReadonlySet<string> | undefined
  return ({ destinationRules }) => {
    if (current === undefined) return undefined
    if (rules?.of !== destinationRules) rules = { of: destinationRules, ask: askForNearness(destinationRules) }
    if (!isPreferredHere && !rules.ask) return undefined
    const now = current()
    const isSame = last?.size === now.size && [...now].every((name) => last?.has(name))
    if (!isSame) last = now
    return last
  }
}

function askForNearness(rules: Snapshot['destinationRules']): boolean {
  for (const { trafficPolicy, portPolicies, subsets } of rules.values()) {
    const ports = portPolicies.map((entry) => entry.trafficPolicy)
    const policies = [trafficPolicy, ...ports, ...subsets.flatMap((subset) => subset.trafficPolicy ?? [])]
    if (policies.some(({ locality }) => locality === 'nearest')) return true
  }
  return false
}
