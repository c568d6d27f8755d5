/** Puts rendered nftables text into the kernel. */
export interface RulesetApplier {
  /** Runs the text as one transaction (`nft -f -`); rejects with nft's own message and the kernel untouched. */
  apply(text: string, signal: AbortSignal): Promise<void>
  /** True while our table exists. */
  isInstalled(signal: AbortSignal): Promise<boolean>
}
