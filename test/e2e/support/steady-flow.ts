import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import type { Host, LabProcess } from '../../lab/index.ts'

/** A connection to an `echo` server that carries a line every 50 ms. */
export interface SteadyFlow extends AsyncDisposable {
  /** Waits until lines sent from now on have come back; rejects when the connection has ended or stalls. */
  carries(timeoutMs?: number): Promise<void>
  /** Lets the client stand still, and go on. */
  freeze(): void
  thaw(): void
  /** Waits until the connection is broken and says how. */
  ended(timeoutMs: number): Promise<string>
}

/** Opens one and waits until it carries. */
export async function startSteadyFlow(host: Host, address: string, port: number): Promise<SteadyFlow> {
  const script = join(import.meta.dirname, 'steady-client.ts')
  const client = host.spawn([process.execPath, script, address, String(port)])
  await client.waitForLine(/^echo 3$/)
  return {
    async carries(timeoutMs = 3_000) {
      // What was under way when this was called may come back over a connection that is dead by now.
      const next = echoesOf(client) + 5
      await client.waitForLine(new RegExp(`^echo ${next}$`), timeoutMs)
      assert.doesNotMatch(client.output(), /^(lost|broken|closed)/m)
    },
    freeze: () => client.kill('SIGSTOP'),
    thaw: () => client.kill('SIGCONT'),
    ended: (timeoutMs) => client.waitForLine(/^broken/, timeoutMs),
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  }
}

function echoesOf(client: LabProcess): number {
  return client.output().match(/^echo /gm)?.length ?? 0
}
