/**
 * An unsigned 32-bit hash that is the same in every process: FNV-1a over the UTF-16 code units, then a mixing step
 * without which similar texts would get similar numbers.
 */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return mix(hash)
}

/** A hash of two hashes, in which each bit of either changes half of the bits. */
export function hashPair(left: number, right: number): number {
  return mix(left ^ Math.imul(right + 1, 0x9e3779b1))
}

/** The finalizer of MurmurHash3. */
function mix(hash: number): number {
  let mixed = hash ^ (hash >>> 16)
  mixed = Math.imul(mixed, 0x85ebca6b)
  mixed ^= mixed >>> 13
  mixed = Math.imul(mixed, 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
