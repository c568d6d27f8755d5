import { join } from 'node:path'
import process from 'node:process'
import type { Host } from '../host.ts'
import type { LabProcess } from '../lab-process.ts'
import type { ProxyRules } from './connect-proxy.ts'
import type { EndReport, Step } from './script.ts'

export { sha256OfTestBytes, testBytes } from './bytes.ts'
export { createConnectProxy, type ProxyRules } from './connect-proxy.ts'
export type { EndReport, Step } from './script.ts'

/**
 * - `http`: answers its name to `GET /`, the client's address:port to `GET /client`, `n` test bytes to
 *   `GET /bytes?n=..&seed=..`, and the SHA-256 of the body to `POST /sha256`.
 * - `echo`: TCP; sends back what it receives and ends when the client does.
 * - `half-close`: TCP; reads to the end, then sends one line of JSON {name, bytes, sha256} and `answerBytes` test bytes.
 * - `reset`: TCP; resets each connection at its first bytes.
 * - `slow-accept`: TCP; takes one connection every `delayMs`, answers its name and ends; others wait in the kernel.
 * - `script-server`: TCP; does what the script of the client says and prints an `EndReport` of each connection; closes
 *   each connection to the port after its own at once.
 * - `port-control`: for routers; opens ports above `firstPort` for who asks by `protocol`, and prints `mapped PORT to
 *   ADDRESS:PORT` and `removed ADDRESS:PORT`.
 * - `connect-proxy`: HTTP proxy that opens connections (CONNECT) by `ProxyRules`, and prints `opened HOST:PORT`.
 */
export type TestServerKind =
  | 'connect-proxy'
  | 'port-control'
  | 'http'
  | 'echo'
  | 'half-close'
  | 'reset'
  | 'slow-accept'
  | 'script-server'

/** How a test server is started. */
export interface TestServerOptions extends ProxyRules {
  readonly port: number
  /** Address to listen on. Default all. */
  readonly address?: string
  /** What the server calls itself. Default the name of the host. */
  readonly name?: string
  /** Length of the answer of `half-close`. Default 1 MiB. */
  readonly answerBytes?: number
  /** What `port-control` speaks. */
  readonly protocol?: 'PCP' | 'NAT-PMP' | 'UPnP'
  /** The first port that `port-control` gives. */
  readonly firstPort?: number
  /** Time between two connections of `slow-accept`. Default 1 s. */
  readonly delayMs?: number
}

/** Starts a server on a host and waits until it listens. */
export async function startTestServer(
  host: Host,
  kind: TestServerKind,
  options: TestServerOptions,
): Promise<LabProcess> {
  const settings = { address: '0.0.0.0', name: host.name, answerBytes: 1024 * 1024, delayMs: 1_000, ...options }
  const server = host.spawn([process.execPath, join(import.meta.dirname, `${kind}.ts`), JSON.stringify(settings)])
  await server.waitForLine(/^listening/)
  return server
}

/** What the half-close client saw. */
export interface HalfCloseReport {
  /** What the server says about the bytes that it got; absent when no whole first line came. */
  readonly server?: { readonly name: string; readonly bytes: number; readonly sha256: string }
  /** What followed the first line. */
  readonly answer: { readonly bytes: number; readonly sha256: string }
  /** The error that ended the connection, such as ECONNRESET; absent after a clean end. */
  readonly error?: string
}

/** Sends test bytes to a `half-close` server, shuts down the sending side, and then receives the whole answer. */
export async function runHalfCloseClient(
  host: Host,
  target: { readonly address: string; readonly port: number; readonly sendBytes: number },
  timeoutMs = 30_000,
): Promise<HalfCloseReport> {
  const script = join(import.meta.dirname, 'half-close-client.ts')
  const { code, stdout, stderr } = await host.exec([process.execPath, script, JSON.stringify(target)], { timeoutMs })
  if (code !== 0) throw new Error(`The half-close client failed on ${host.name}: ${stderr}`)
  const report: HalfCloseReport = JSON.parse(stdout)
  return report
}

/** A connection of the script client to a `script-server`. The server's test bytes have the seed after the client's. */
export interface ScriptedConnection {
  /** Names it in the reports of both ends. */
  readonly id: string
  readonly address: string
  readonly port: number
  readonly seed: number
  readonly client: readonly Step[]
  /** Absent: the server is not told anything. */
  readonly server?: readonly Step[]
}

/** Runs connections at the same time, in one process; resolves with what each has seen. */
export async function runScripts(
  host: Host,
  connections: readonly ScriptedConnection[],
  timeoutMs = 30_000,
): Promise<readonly EndReport[]> {
  const argv = scriptArgv(connections, timeoutMs)
  const { code, stdout, stderr } = await host.exec(argv, { timeoutMs: timeoutMs + 5_000 })
  if (code !== 0) throw new Error(`The script client failed on ${host.name}: ${stderr}`)
  const reports: readonly EndReport[] = JSON.parse(stdout)
  return reports
}

/** A script client in the background. */
export interface RunningScript extends AsyncDisposable {
  /** Waits until a connection has come to a step that says this. */
  said(text: string): Promise<void>
  /** Waits until all connections are closed. */
  reports(timeoutMs: number): Promise<readonly EndReport[]>
}

/** Starts connections and does not wait for their end. */
export function startScripts(
  host: Host,
  connections: readonly ScriptedConnection[],
  timeoutMs = 120_000,
): RunningScript {
  const client = host.spawn(scriptArgv(connections, timeoutMs))
  return {
    async said(text) {
      await client.waitForLine(new RegExp(`^${text}$`))
    },
    async reports(limitMs) {
      const reports: readonly EndReport[] = JSON.parse(await client.waitForLine(/^\[/, limitMs))
      return reports
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  }
}

function scriptArgv(connections: readonly ScriptedConnection[], timeoutMs: number): readonly string[] {
  const script = join(import.meta.dirname, 'script-client.ts')
  return [process.execPath, script, JSON.stringify(connections), String(timeoutMs)]
}
