import { type DestinationRule, keyOf, type ObjectKey } from '../model/index.ts'

/** The Services that a host names: one (`shop/web`), those of a namespace (`shop/*`) or all (`*` + `/*`). */
export type RuleTarget = string

/** What every host that means the whole cluster becomes. */
const everything: RuleTarget = '*/*'

/** DestinationRules by the Services that they are for. Mutable. */
export class RuleIndex {
  readonly #byTarget = new Map<RuleTarget, Map<ObjectKey, DestinationRule>>()
  readonly #byKey = new Map<ObjectKey, DestinationRule>()
  readonly #withSubsets = new Map<ObjectKey, DestinationRule>()

  /** The rules that tell Pods apart by their labels. */
  get withSubsets(): Iterable<DestinationRule> {
    return this.#withSubsets.values()
  }

  /** Takes a rule that is not there yet. */
  add(rule: DestinationRule): void {
    const key = keyOf(rule)
    this.#byKey.set(key, rule)
    if (rule.subsets.length > 0) this.#withSubsets.set(key, rule)
    const target = targetOf(rule)
    if (target === undefined) return
    const rules = this.#byTarget.get(target) ?? new Map<ObjectKey, DestinationRule>()
    this.#byTarget.set(target, rules.set(key, rule))
  }

  /** Forgets a rule that is there. */
  delete(rule: DestinationRule): void {
    const key = keyOf(rule)
    this.#byKey.delete(key)
    this.#withSubsets.delete(key)
    const target = targetOf(rule) ?? ''
    const rules = this.#byTarget.get(target)
    rules?.delete(key)
    if (rules?.size === 0) this.#byTarget.delete(target)
  }

  /** The rules of a Service, as `Snapshot.destinationRulesOf` promises them. */
  rulesOf(serviceKey: ObjectKey): readonly DestinationRule[] {
    const namespace = namespaceOf(serviceKey)
    const named = this.#visible(serviceKey, namespace)
    const exact = named.length > 0 ? named : this.#ofSameName(serviceKey, namespace)
    const wide = [`${namespace}/*`, everything].flatMap((target) => this.#visible(target, namespace))
    return [...new Set([...exact, ...wide])]
  }

  /** How the Go system finds rules, whatever their host is. */
  #ofSameName(serviceKey: ObjectKey, namespace: string): DestinationRule[] {
    const rule = this.#byKey.get(serviceKey)
    return rule !== undefined && isVisible(rule, namespace) ? [rule] : []
  }

  #visible(target: RuleTarget, namespace: string): DestinationRule[] {
    const rules = [...(this.#byTarget.get(target)?.values() ?? [])].filter((rule) => isVisible(rule, namespace))
    return rules.sort((left, right) => compareRules(left, right, namespace))
  }
}

/**
 * The Services whose rules a rule can change: those that its host names, among the known ones where the host has a
 * wildcard, and the one of its own name.
 */
export function* serviceKeysOf(rule: DestinationRule, known: Iterable<ObjectKey>): Generator<ObjectKey> {
  yield keyOf(rule)
  const target = targetOf(rule)
  if (target === undefined) return
  if (!target.endsWith('/*')) {
    yield target
    return
  }
  const prefix = target === everything ? '' : target.slice(0, -1)
  for (const key of known) if (key.startsWith(prefix)) yield key
}

/** Undefined for hosts outside of the cluster. A short name is one of the rule's own namespace. */
function targetOf({ host, namespace }: DestinationRule): RuleTarget | undefined {
  const [first = '', second, third, ...rest] = host.toLowerCase().replace(/\.$/, '').split('.')
  if (first === '*') return wildcardTargetOf([second, third, ...rest])
  if (first === '' || (third !== undefined && third !== 'svc')) return undefined
  return `${second ?? namespace}/${first}`
}

function wildcardTargetOf([first, second, ...rest]: readonly (string | undefined)[]): RuleTarget | undefined {
  const domain = [first, second, ...rest].filter((label) => label !== undefined).join('.')
  if (domain === '' || /^(svc\.)?(cluster\.)?local$|^svc$/.test(domain)) return everything
  return second === undefined || second === 'svc' ? `${first}/*` : undefined
}

function isVisible({ exportTo, namespace: own }: DestinationRule, namespace: string): boolean {
  return (
    exportTo.length === 0 ||
    exportTo.some((entry) => entry === '*' || entry === namespace || (entry === '.' && own === namespace))
  )
}

function compareRules(left: DestinationRule, right: DestinationRule, namespace: string): number {
  const distance = Number(left.namespace !== namespace) - Number(right.namespace !== namespace)
  if (distance !== 0) return distance
  const [a, b] = [`${left.name}/${left.namespace}`, `${right.name}/${right.namespace}`]
  return a < b ? -1 : 1
}

function namespaceOf(key: ObjectKey): string {
  return key.slice(0, key.indexOf('/'))
}
