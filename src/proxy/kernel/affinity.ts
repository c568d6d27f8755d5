import { type RulesetApplier, RulesetRejectedError } from '../../linux/index.ts'
import { differencesOf } from '../../runtime/index.ts'
import { deletionOf, type NftElement } from './nft-table.ts'
import type { Ruleset } from './render-ruleset.ts'
import { type Choice, choicesOf, keyOf, type RuledServicePort } from './ruled-service-port.ts'
import { affinityMap } from './ruleset-needs.ts'

/** Name of the map that packets fill with what clients were given. */
const affinityMapName = affinityMap[0]

/** Whether clients may be remembered for a slot that the new ruleset does not have; before undefined: by whoever. */
export function mayHoldStaleClients(before: Ruleset | undefined, after: Ruleset): boolean {
  if (!after.containers.has(affinityMapName)) return false
  if (before === undefined) return true
  for (const { before: part, after: next } of differencesOf(before.parts, after.parts)) {
    if (part !== undefined && choicesOf(part).some((choice) => hasLost(choice, next))) return true
  }
  return false
}

/** Deletes the entries of such clients, so that they choose anew. */
export async function forgetStaleClients(
  applier: RulesetApplier,
  ruleset: Ruleset,
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const elements = await applier.elementsOf(affinityMapName, signal)
    const remembered = elements.map((element) => ({ container: affinityMapName, ...element }))
    const stale = staleClientsIn(remembered, ruleset)
    if (stale.length === 0) return
    try {
      await applier.update(deletionOf(ruleset.containers, stale), signal)
      return
    } catch (error) {
      // One of them may have expired in between.
      if (!(error instanceof RulesetRejectedError) || attempt === 3) throw error
    }
  }
}

/** A client is remembered under what it asked for, `protocol . address . port . client`. */
export function staleClientsIn(remembered: readonly NftElement[], { parts }: Ruleset): NftElement[] {
  const slots = slotsByDestination(parts.values())
  return remembered.filter(({ key, value = '' }) => {
    const [protocol, address, port] = key.split(' . ')
    const known = slots.get(`${protocol} . ${address} . ${port}`) ?? slots.get(`${protocol} . ${port}`)
    return known?.has(value) !== true
  })
}

function hasLost({ slots, affinitySeconds }: Choice, next: RuledServicePort | undefined): boolean {
  if (affinitySeconds === undefined) return false
  const kept = new Set(next === undefined ? [] : choicesOf(next).flatMap((choice) => choice.slots.map(targetOf)))
  return slots.some((slot) => !kept.has(targetOf(slot)))
}

const targetOf = ({ address, port }: Choice['slots'][number]): string => `${address} . ${port}`

/** Where clients of each destination, or node port, may be sent. */
function slotsByDestination(parts: Iterable<RuledServicePort>): Map<string, ReadonlySet<string>> {
  const slots = new Map<string, ReadonlySet<string>>()
  for (const part of parts) {
    if (part.affinitySeconds === undefined) continue
    const values = new Set(choicesOf(part).flatMap((choice) => choice.slots.map(targetOf)))
    for (const destination of [...part.destinations, ...(part.external?.destinations ?? [])]) {
      slots.set(keyOf(destination), values)
    }
    const { protocol, nodePort } = part.external ?? {}
    if (nodePort !== undefined) slots.set(`${protocol} . ${nodePort}`, values)
  }
  return slots
}
