/** Puts rendered nftables text into the kernel. */
export interface RulesetApplier extends Disposable {
  /**
   * Tries the text and changes nothing (`nft -c -f -`); rejects when nft is missing, the user may not change rules, or
   * nft or the kernel do not take it.
   */
  check(text: string, signal: AbortSignal): Promise<void>
  /** Makes our table equal to this one; rejects with a `RulesetRejectedError` that tells what is wrong with it. */
  apply(table: WholeTable, signal: AbortSignal): Promise<void>
  /**
   * Runs a transaction that touches neither the base chains nor the number of their rules; rejects with a
   * `RulesetRejectedError` and the kernel untouched where it does not fit what the kernel holds.
   */
  update(change: TableChange, signal: AbortSignal): Promise<void>
  /** The elements of a map of our table, as nft writes them: parts of keys and values are joined by ` . `. */
  elementsOf(map: string, signal: AbortSignal): Promise<readonly MapElement[]>
  /** True while the base chains of our table are as the last `apply` left them; cheap enough to ask every second. */
  isInstalled(signal: AbortSignal): Promise<boolean>
  /** A number that changes with every change of anybody's nftables ruleset. */
  generation(signal: AbortSignal): Promise<number>
  /** How elements were changed last, or would be. */
  way(): ElementWay
}

/** By our own process, or by a process of nft for each change. */
export type ElementWay = 'netlink' | 'nft'

/** One element of a map, as text. */
export interface MapElement {
  readonly key: string
  readonly value: string
}

/** Our table as text for nft: as one transaction, or in two steps with elements in the second. */
export interface WholeTable {
  /** The whole, replacing what was there. */
  text(): string
  /** Absent where only the whole will do. */
  readonly steps?: {
    /** Containers, and the chains with their rules; elements, and chains that are not in it, stay as they are. */
    readonly frame: () => string
    readonly chains: ReadonlySet<string>
    readonly elements: ElementChange
  }
}

/** One transaction on our table. */
export interface TableChange {
  text(): string
  /** The same where it changes nothing but elements. */
  readonly elements?: ElementChange
}

/** A transaction on elements, done from top to bottom. */
export interface ElementChange {
  /** At least those that elements are named of. */
  readonly containers: ReadonlyMap<string, ElementContainer>
  /** Chains whose rules go. */
  readonly emptiedChains?: readonly string[]
  readonly emptied?: readonly string[]
  readonly removed?: Iterable<TableElement>
  readonly added?: Iterable<TableElement>
}

/** A map or a set of our table. */
export interface ElementContainer {
  /** What stands between its braces, one statement a line. */
  readonly shape: readonly string[]
}

/** One element of a container, in nft's words. */
export interface TableElement {
  readonly container: string
  readonly key: string
  /** What a map leads to. */
  readonly value?: string
}
