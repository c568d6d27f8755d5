/** The stream cipher of private networks; the package has no types of its own. */
declare module 'xsalsa20' {
  /** Begins with a nonce of 24 bytes and a key of 32. */
  function xsalsa20(nonce: Uint8Array, key: Uint8Array): { update(input: Uint8Array): Uint8Array; finalize(): void }
  export = xsalsa20
}
