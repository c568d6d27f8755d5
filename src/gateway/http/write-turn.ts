import type { ByteStream } from '../../net/index.ts'

const corked: ByteStream[] = []

/**
 * Holds what is written to the stream back until everything that arrived at this moment was read. Each write that finds
 * its reader asleep costs several times as much as one that finds it awake, and writes that follow each other do.
 */
export function gatherWrites(stream: ByteStream): void {
  if (stream.writableCorked > 0) return
  stream.cork()
  if (corked.push(stream) === 1) setImmediate(uncorkAll)
}

function uncorkAll(): void {
  for (const stream of corked.splice(0)) stream.uncork()
}
