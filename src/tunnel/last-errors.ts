/** More failures than this are not told apart: a member can make up any number of identities. */
const maxRemembered = 1000

/** Why something failed with a peer last, in words, of those that failed latest. */
export class LastErrors {
  readonly #texts = new Map<string, string>()

  /** Undefined when nothing failed, or that is long ago. */
  of(peer: string): string | undefined {
    return this.#texts.get(peer)
  }

  note(peer: string, text: string): void {
    this.#texts.delete(peer)
    this.#texts.set(peer, text)
    const [oldest] = this.#texts.keys()
    if (this.#texts.size > maxRemembered && oldest !== undefined) this.#texts.delete(oldest)
  }

  /** It works now. */
  forget(peer: string): void {
    this.#texts.delete(peer)
  }
}
