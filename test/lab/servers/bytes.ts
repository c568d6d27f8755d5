import { createCipheriv, createHash } from 'node:crypto'

const chunkBytes = 64 * 1024

/** A stream of bytes that never repeats and is the same each time: lost, doubled or moved parts change its digest. */
export function* testBytes(count: number, seed = 0): Generator<Buffer> {
  const iv = Buffer.alloc(16)
  iv.writeUInt32BE(seed)
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), iv)
  for (let left = count; left > 0; left -= chunkBytes) {
    yield cipher.update(Buffer.alloc(Math.min(left, chunkBytes)))
  }
}

/** Hexadecimal SHA-256 of `testBytes`. */
export function sha256OfTestBytes(count: number, seed = 0): string {
  const hash = createHash('sha256')
  for (const chunk of testBytes(count, seed)) hash.update(chunk)
  return hash.digest('hex')
}
