import type { ElementContainer, TableChange, TableElement, WholeTable } from '../../linux/index.ts'
import { differencesOf, type MapDifference, type ReadableMap } from '../../runtime/index.ts'

/** A map or a set of the table. Another shape makes another table. */
export interface NftContainer extends ElementContainer {
  readonly kind: 'map' | 'set'
  /** Packets fill it: it is never emptied. */
  readonly isDynamic?: boolean
  /** Several parts may name the same key; it stays as long as one of them does. */
  readonly isShared?: boolean
}

/** One element of a container. */
export type NftElement = TableElement

/**
 * A table as data. Its elements are those of its parts; a part that did not change is the same object as before, so
 * that a change of one of ten thousand costs little.
 */
export interface NftTable<P> {
  readonly containers: ReadonlyMap<string, NftContainer>
  /** Rules by chain; the first line of a chain on a hook begins with `type`. */
  readonly chains: ReadonlyMap<string, readonly string[]>
  readonly parts: ReadableMap<P>
  readonly elementsOf: (part: P) => readonly NftElement[]
  /** The keys of a part's elements in a shared container. */
  readonly sharedKeysOf: (part: P, container: string) => readonly string[]
}

/** Name of our table, in family ip. */
export const tableName = 'edgemesh'
const table = `ip ${tableName}`

/**
 * The whole table as one nft transaction. Chains are flushed and filled, never deleted and made: while the kernel has
 * no NAT chain, established connections lose their translation. Same input, same text.
 */
export function renderTable<P>(wanted: NftTable<P>): string {
  const { containers, chains } = wanted
  return [
    `add table ${table}`,
    `flush table ${table}`,
    `table ${table} {`,
    ...[...containers].flatMap(([name, { kind, shape }]) => renderBlock(kind, name, shape)),
    ...[...chains].flatMap(([name, rules]) => renderBlock('chain', name, rules)),
    '}',
    ...emptiedIn(wanted).map((name) => `flush ${containers.get(name)?.kind} ${table} ${name}`),
    ...[...fillsOf(wanted)].map(([name, lines]) => `add element ${table} ${name} {\n${lines.join('\n')}\n}`),
    '',
  ].join('\n')
}

const emptiedIn = <P>({ containers }: NftTable<P>): string[] =>
  [...containers].flatMap(([name, { isDynamic }]) => (isDynamic === true ? [] : [name]))

/** The whole table for an applier that may put elements in by itself. */
export function wholeTableOf<P>(wanted: NftTable<P>): WholeTable {
  const { containers, chains } = wanted
  const elements = {
    containers,
    emptied: emptiedIn(wanted),
    added: { [Symbol.iterator]: () => allElementsOf(wanted) },
  }
  return {
    text: () => renderTable(wanted),
    steps: { frame: () => renderFrame(wanted), chains: new Set(chains.keys()), elements },
  }
}

/** Containers and chains as one nft transaction. Elements stay, and so do the chains that only they lead to. */
function renderFrame<P>({ containers, chains }: NftTable<P>): string {
  const hookOf = (rules: readonly string[]) => rules.filter((rule) => rule.startsWith('type '))
  const rulesOf = (rules: readonly string[]) => rules.slice(hookOf(rules).length)
  return [
    `add table ${table}`,
    `table ${table} {`,
    ...[...containers].flatMap(([name, { kind, shape }]) => renderBlock(kind, name, shape)),
    ...[...chains].flatMap(([name, rules]) => renderBlock('chain', name, hookOf(rules))),
    '}',
    ...[...chains.keys()].map((name) => `flush chain ${table} ${name}`),
    `table ${table} {`,
    ...[...chains].flatMap(([name, rules]) => renderBlock('chain', name, rulesOf(rules))),
    '}',
    '',
  ].join('\n')
}

/** The lines that fill each container that has any. */
function fillsOf<P>(wanted: NftTable<P>): Map<string, string[]> {
  const fills = new Map<string, string[]>()
  for (const element of allElementsOf(wanted)) {
    const lines = fills.get(element.container)
    if (lines === undefined) fills.set(element.container, [lineOf(element)])
    else lines.push(lineOf(element))
  }
  return fills
}

/** What is shared is named once. */
function* allElementsOf<P>({ containers, parts, elementsOf }: NftTable<P>): Generator<NftElement> {
  const seen = new Map(
    [...containers].flatMap(([name, { isShared }]) => (isShared === true ? [[name, new Set<string>()] as const] : [])),
  )
  for (const part of parts.values()) {
    for (const element of elementsOf(part)) {
      const known = seen.get(element.container)
      if (known?.has(element.key) === true) continue
      known?.add(element.key)
      yield element
    }
  }
}

const lineOf = ({ key, value }: NftElement): string => (value === undefined ? `  ${key},` : `  ${key} : ${value},`)

/** Makes a table replace one whose maps or chains have another shape; established connections may break. */
export function replacementOf<P>(wanted: NftTable<P>): WholeTable {
  return { text: () => `add table ${table}\ndelete table ${table}\n${renderTable(wanted)}` }
}

/** What turns one table into another. */
export interface TableDifference extends TableChange {
  /** There is nothing to change. */
  readonly isEmpty: boolean
}

/** Undefined when a chain on a hook or the shape of a container differs, which only the whole table can change. */
export type Comparison<P> = (before: NftTable<P>, after: NftTable<P>) => TableDifference | undefined

/** Compares again and again; costs what changed when one table follows the other. */
export function createComparison<P>(): Comparison<P> {
  const shared = new SharedKeys<P>()
  return (before, after) => (isSameShape(before, after) ? differenceOf(before, after, shared) : undefined)
}

function differenceOf<P>(before: NftTable<P>, after: NftTable<P>, shared: SharedKeys<P>): TableDifference {
  const frame = changedFrame(before, after)
  const { removed, added } = changedElements(before, after, shared)
  const isSameFrame = Object.values(frame).every((list) => list.length === 0)
  return {
    isEmpty: isSameFrame && removed.isEmpty && added.isEmpty,
    text: () => renderDifference(frame, removed, added),
    ...(isSameFrame && { elements: { containers: after.containers, removed, added } }),
  }
}

function changedFrame<P>(before: NftTable<P>, after: NftTable<P>) {
  return {
    newContainers: [...after.containers].filter(([name]) => !before.containers.has(name)),
    oldContainers: [...before.containers].filter(([name]) => !after.containers.has(name)),
    newChains: [...after.chains].filter(([name]) => !before.chains.has(name)),
    oldChains: [...before.chains].filter(([name]) => !after.chains.has(name)),
    changedChains: [...after.chains].filter(([name, rules]) => !isSame(before.chains.get(name), rules)),
  }
}

function renderDifference(
  { newContainers, oldContainers, newChains, oldChains, changedChains }: ReturnType<typeof changedFrame>,
  removed: ElementLists,
  added: ElementLists,
): string {
  const lines = [
    ...newContainers.map(([name, { kind, shape }]) => `add ${kind} ${table} ${name} { ${shape.join('; ')}; }`),
    ...newChains.map(([name]) => `add chain ${table} ${name}`),
    // Rules and elements that lead to a chain must be gone before it.
    ...[...changedChains, ...oldChains].map(([name]) => `flush chain ${table} ${name}`),
    ...removed.render('delete'),
    ...changedChains.flatMap(([name, rules]) => rules.map((rule) => `add rule ${table} ${name} ${rule}`)),
    ...added.render('add'),
    ...oldChains.map(([name]) => `delete chain ${table} ${name}`),
    ...oldContainers.map(([name, { kind }]) => `delete ${kind} ${table} ${name}`),
  ]
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`
}

/** Deletes these elements in one transaction, which fails when one of them is gone. */
export function deletionOf(
  containers: ReadonlyMap<string, ElementContainer>,
  elements: readonly NftElement[],
): TableChange {
  const lists = new ElementLists()
  for (const element of elements) lists.add(element)
  return { text: () => `${lists.render('delete').join('\n')}\n`, elements: { containers, removed: lists } }
}

function isSameShape<P>(before: NftTable<P>, after: NftTable<P>): boolean {
  for (const [name, { shape }] of after.containers) {
    const known = before.containers.get(name)
    if (known !== undefined && !isSame(known.shape, shape)) return false
  }
  const hooked = ({ chains }: NftTable<P>) => [...chains].filter(([, rules]) => rules[0]?.startsWith('type '))
  const bases = hooked(after)
  return (
    bases.length === hooked(before).length && bases.every(([name, rules]) => isSame(before.chains.get(name), rules))
  )
}

const isSame = (left: readonly string[] | undefined, right: readonly string[]): boolean =>
  left !== undefined && left.length === right.length && left.every((line, at) => line === right[at])

function changedElements<P>(before: NftTable<P>, after: NftTable<P>, shared: SharedKeys<P>) {
  const removed = new ElementLists()
  const added = new ElementLists()
  const differences = [...differencesOf(before.parts, after.parts)]
  for (const element of elementsIn(before, differences, 'before')) removed.add(element)
  for (const element of elementsIn(after, differences, 'after')) if (!removed.takeSame(element)) added.add(element)
  shared.follow(after)
  shared.keepIn(removed)
  // What goes with its container need not be removed before.
  for (const name of removed.containers()) if (!after.containers.has(name)) removed.forget(name)
  return { removed, added }
}

function* elementsIn<P>(
  { elementsOf }: NftTable<P>,
  differences: readonly MapDifference<P>[],
  side: 'before' | 'after',
): Generator<NftElement> {
  for (const { [side]: part } of differences) if (part !== undefined) yield* elementsOf(part)
}

/** Counts how often the parts of a table name each key of the containers that they share. */
class SharedKeys<P> {
  readonly #counts = new Map<string, Map<string, number>>()
  #parts: ReadableMap<P> = new Map()

  follow(table: NftTable<P>): void {
    for (const { before, after } of differencesOf(this.#parts, table.parts)) {
      if (before !== undefined) this.#countPart(before, table, -1)
      if (after !== undefined) this.#countPart(after, table, 1)
    }
    this.#parts = table.parts
  }

  /** Takes out of the removed elements those that a part still names. */
  keepIn(removed: ElementLists): void {
    for (const [container, counts] of this.#counts) {
      for (const key of [...removed.keysOf(container).keys()]) {
        if (counts.has(key)) removed.takeSame({ container, key })
      }
    }
  }

  #countPart(part: P, { containers, sharedKeysOf }: NftTable<P>, change: 1 | -1): void {
    for (const [name, { isShared }] of containers) {
      if (isShared === true) for (const key of sharedKeysOf(part, name)) this.#count(name, key, change)
    }
  }

  #count(container: string, key: string, change: 1 | -1): void {
    let counts = this.#counts.get(container)
    if (counts === undefined) {
      counts = new Map()
      this.#counts.set(container, counts)
    }
    const count = (counts.get(key) ?? 0) + change
    if (count === 0) counts.delete(key)
    else counts.set(key, count)
  }
}

/** Elements by container and key; of two with the same key the first counts. */
class ElementLists implements Iterable<NftElement> {
  readonly #lists = new Map<string, Map<string, string | undefined>>()

  get isEmpty(): boolean {
    return this.#lists.size === 0
  }

  *[Symbol.iterator](): Generator<NftElement> {
    for (const [container, list] of this.#lists) {
      for (const [key, value] of list) yield { container, key, ...(value !== undefined && { value }) }
    }
  }

  add({ container, key, value }: NftElement): void {
    let list = this.#lists.get(container)
    if (list === undefined) {
      list = new Map()
      this.#lists.set(container, list)
    }
    if (!list.has(key)) list.set(key, value)
  }

  /** Removes the element if it is there with the same value. */
  takeSame({ container, key, value }: NftElement): boolean {
    const list = this.#lists.get(container)
    if (list === undefined || !list.has(key) || list.get(key) !== value) return false
    list.delete(key)
    if (list.size === 0) this.#lists.delete(container)
    return true
  }

  keysOf(container: string): ReadonlyMap<string, unknown> {
    return this.#lists.get(container) ?? new Map()
  }

  containers(): string[] {
    return [...this.#lists.keys()]
  }

  forget(container: string): void {
    this.#lists.delete(container)
  }

  /** What is deleted is named by its key alone. */
  render(verb: 'add' | 'delete'): string[] {
    const isFull = verb === 'add'
    return [...this.#lists].flatMap(([name, list]) => [
      `${verb} element ${table} ${name} {`,
      ...[...list].map(([key, value]) =>
        lineOf({ container: name, key, ...(isFull && value !== undefined && { value }) }),
      ),
      '}',
    ])
  }
}

const renderBlock = (kind: string, name: string, lines: readonly string[]): string[] => [
  `  ${kind} ${name} {`,
  ...lines.map((line) => `    ${line}`),
  '  }',
]
