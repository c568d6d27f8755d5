import { createCipheriv, createHash } from 'node:crypto'

const chunkBytes = 64 * 1024

/** Gives the next bytes of a stream that never repeats and is the same each time. */
export function testByteSource(seed = 0): (count: number) => Buffer {
  const iv = Buffer.alloc(16)
  iv.writeUInt32BE(seed)
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), iv)
  return (count) => cipher.update(Buffer.alloc(count))
}

/** The first bytes of such a stream, in chunks: lost, doubled or moved parts change their digest. */
export function* testBytes(count: number, seed = 0): Generator<Buffer> {
  const next = testByteSource(seed)
  for (let left = count; left > 0; left -= chunkBytes) yield next(Math.min(left, chunkBytes))
}

/** Hexadecimal SHA-256 of `testBytes`. */
export function sha256OfTestBytes(count: number, seed = 0): string {
  const hash = createHash('sha256')
  for (const chunk of testBytes(count, seed)) hash.update(chunk)
  return hash.digest('hex')
}
