import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Host } from './host.ts'

/** One end of a long line: a device that it makes, and that goes with it. */
export interface LineEnd {
  readonly host: Host
  readonly device: string
}

/** What happens to packets on a long line, each way. */
export interface LineOptions {
  readonly oneWayMs: number
  /** Default none. */
  readonly lossPerMillion?: number
  /** For the program that carries them, which gcc makes of `delay-line.c`. */
  readonly dir: string
}

/** Joins two hosts by devices of layer 3 without addresses, since this kernel need not have netem; ends when disposed. */
export async function startLongLine(
  ends: readonly [LineEnd, LineEnd],
  { oneWayMs, lossPerMillion = 0, dir }: LineOptions,
): Promise<AsyncDisposable> {
  const program = join(dir, 'delay-line')
  if (!existsSync(program)) {
    await promisify(execFile)('gcc', ['-O2', '-o', program, join(import.meta.dirname, 'delay-line.c')])
  }
  const words = ends.flatMap(({ host, device }) => [`/run/netns/${host.netns}`, device])
  const line = spawn(program, [...words, String(oneWayMs), String(lossPerMillion)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [first]: unknown[] = await Promise.race([once(line.stdout, 'data'), once(line, 'exit')])
  if (!String(first).startsWith('ready')) throw new Error(`Cannot make a long line: its program ended with ${first}`)
  return {
    async [Symbol.asyncDispose]() {
      if (line.exitCode !== null || line.signalCode !== null) return
      line.kill()
      await once(line, 'exit')
    },
  }
}
