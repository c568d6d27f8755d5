/** Takes bytes that a stream lends. */
export interface Borrower {
  /** The bytes are gone when it returns, so it copies what it keeps. */
  onBytes(bytes: Buffer): void
  /** What it has taken and not passed on yet. */
  readonly heldBytes: number
}

/** A stream that can tell its bytes without a buffer of their own for each piece. */
export interface Lender {
  /**
   * From now on bytes go to the borrower instead of `data`; the end and errors come as ever. Not while anything is unread.
   * The result is to be called whenever the borrower holds less than before.
   */
  lendTo(borrower: Borrower): () => void
}

/** True for a stream whose bytes can be borrowed. */
export function isLender(stream: object): stream is Lender {
  return 'lendTo' in stream && typeof stream.lendTo === 'function'
}
