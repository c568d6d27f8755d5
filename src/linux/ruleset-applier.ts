/** Puts rendered nftables text into the kernel. */
export interface RulesetApplier extends Disposable {
  /** Changes nothing; rejects when nft is missing, the user may not change rules, or the kernel has no nftables. */
  probe(signal: AbortSignal): Promise<void>
  /** Runs the text as one transaction (`nft -f -`); rejects with nft's own message and the kernel untouched. */
  apply(text: string, signal: AbortSignal): Promise<void>
  /** As `apply`, for a transaction that touches neither the base chains nor the number of their rules. */
  update(text: string, signal: AbortSignal): Promise<void>
  /** The elements of a map of our table, as nft writes them: parts of keys and values are joined by ` . `. */
  elementsOf(map: string, signal: AbortSignal): Promise<readonly MapElement[]>
  /** True while the base chains of our table are as the last `apply` left them; cheap enough to ask every second. */
  isInstalled(signal: AbortSignal): Promise<boolean>
  /** A number that changes with every change of anybody's nftables ruleset. */
  generation(signal: AbortSignal): Promise<number>
}

/** One element of a map, as text. */
export interface MapElement {
  readonly key: string
  readonly value: string
}
