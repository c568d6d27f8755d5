/** Who wants to hear that what kept a path from standing may be gone. */
export class News {
  readonly #ofNetwork = new Set<() => void>()
  readonly #ofPeers = new Set<(names: readonly string[]) => void>()

  /** Calls back when the network of this node has changed. */
  onNetworkChange(listener: () => void): void {
    this.#ofNetwork.add(listener)
  }

  /** Calls back with the names of peers that were met, or have other addresses. */
  onPeers(listener: (names: readonly string[]) => void): void {
    this.#ofPeers.add(listener)
  }

  tellNetworkChange(): void {
    for (const listener of this.#ofNetwork) listener()
  }

  tellPeers(names: readonly string[]): void {
    for (const listener of this.#ofPeers) listener(names)
  }
}
