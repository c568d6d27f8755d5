/** Text and bytes as one buffer: one write costs less than copying a small chunk. */
export function gather(before: string, chunk: Buffer, after: string): Buffer {
  const all = Buffer.allocUnsafe(before.length + chunk.length + after.length)
  all.write(before, 0, 'latin1')
  chunk.copy(all, before.length)
  if (after !== '') all.write(after, before.length + chunk.length, 'latin1')
  return all
}
