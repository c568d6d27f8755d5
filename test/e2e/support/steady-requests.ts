import { join } from 'node:path'
import process from 'node:process'
import type { Host, LabProcess } from '../../lab/index.ts'

/** One request and how it ended. */
export interface SteadyRequest {
  readonly url: string
  /** When it was sent, in milliseconds since 1970. */
  readonly at: number
  /** How long it took. */
  readonly ms: number
  readonly answer?: string
  readonly error?: string
}

/** Requests that go on until disposal, each over a new connection. */
export interface SteadyRequests extends AsyncDisposable {
  /** Those that have ended so far; of the last 20,000. */
  ended(): readonly SteadyRequest[]
  /** The answer of a URL, once there is one. */
  answerOf(url: string, timeoutMs: number): Promise<SteadyRequest>
}

/** How a client asks. */
export interface SteadyRequestOptions {
  readonly everyMs: number
  readonly timeoutMs: number
  /** `until`: asks one URL until it answers, then the next one. Default `all`, all the time. */
  readonly mode?: 'all' | 'until'
}

/** Starts a client on a host. */
export async function startSteadyRequests(
  host: Host,
  urls: readonly string[],
  { everyMs, timeoutMs, mode = 'all' }: SteadyRequestOptions,
): Promise<SteadyRequests> {
  const script = join(import.meta.dirname, 'request-client.ts')
  const client = host.spawn([process.execPath, script, String(everyMs), String(timeoutMs), mode, ...urls])
  await client.waitForLine(/^asking$/)
  return {
    ended: () => requestsOf(client),
    async answerOf(url, limitMs) {
      const pattern = new RegExp(`^{"url":"${url.replaceAll(/[./]/g, '\\$&')}".*"answer"`)
      return JSON.parse(await client.waitForLine(pattern, limitMs))
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  }
}

function requestsOf(client: LabProcess): SteadyRequest[] {
  const lines = client.output().split('\n')
  return lines.filter((line) => line.startsWith('{')).map((line): SteadyRequest => JSON.parse(line))
}

/** Starts a client with the same settings on each host; disposal stops all. */
export async function startSteadyRequestsOn(
  hosts: readonly Host[],
  urls: readonly string[],
  options: SteadyRequestOptions,
): Promise<{ readonly clients: readonly SteadyRequests[] } & AsyncDisposable> {
  const stack = new AsyncDisposableStack()
  const clients = await Promise.all(
    hosts.map(async (host) => stack.use(await startSteadyRequests(host, urls, options))),
  )
  return { clients, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

/** The middle one of numbers. */
export function medianOf(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN
}
