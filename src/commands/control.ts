import { join } from 'node:path'
import { defaultConfigFileOf, isRole, type Role, runtimeDirOf } from '../config/index.ts'
import { type ControlResponse, startControlServer } from '../net/index.ts'
import type { Health, Metrics } from '../observability/index.ts'
import type { CommandContext, CommandInput } from './command.ts'
import type { PingResult } from './ping-targets.ts'
import type { StatusDocument } from './status-document.ts'

/** The control socket of a role, in its `runtimeDir`. */
export function controlSocketOf(runtimeDir: string): string {
  return join(runtimeDir, 'control.sock')
}

/** How long a running instance may take to answer a person. */
export const answerTimeoutMs = 5_000

/** The control socket of the running instance that the user means: of the agent, unless a role is named. */
export function runningControlSocketOf(
  role: string | undefined,
  options: CommandInput['options'],
  { env }: CommandContext,
): string {
  const known = configFileOf(role, options)
  return controlSocketOf(runtimeDirOf(known.role, known.file, env))
}

/** The role and the configuration file that the user means: of the agent, unless a role is named. */
export function configFileOf(
  name: string | undefined,
  options: CommandInput['options'],
): { readonly role: Role; readonly file: string } {
  const role = isRole(name) ? name : 'agent'
  return { role, file: String(options['config'] ?? defaultConfigFileOf(role)) }
}

/** What a role lets people ask and change. */
export interface ControlOptions {
  readonly runtimeDir: string
  readonly status: () => StatusDocument
  readonly metrics: Metrics
  readonly health: Health
  /** Forgets who a name or server address belongs to; false when it is not known. Absent without a tunnel. */
  readonly unpin: ((name: string) => boolean) | undefined
  /** Measures the way to the nodes that a person means; absent where nothing is dialled. */
  readonly ping?: ((target: string) => Promise<readonly PingResult[]>) | undefined
}

/** Serves `/status`, `/ping?target=NODE`, `/metrics`, `/readyz`, `/livez` and, for POST, `/unpin?name=NAME` on the control socket. */
export function startControl(options: ControlOptions): Promise<AsyncDisposable> {
  const path = controlSocketOf(options.runtimeDir)
  return startControlServer({
    path,
    handler: ({ method, url }) => answer(options, method, new URL(url, 'unix://control')),
  })
}

async function answer(
  { status, metrics, health, unpin, ping }: ControlOptions,
  method: 'GET' | 'POST',
  { pathname, searchParams }: URL,
): Promise<ControlResponse | undefined> {
  const target = searchParams.get('target') ?? ''
  switch (`${method} ${pathname}`) {
    case 'GET /status':
      return { status: 200, contentType: 'application/json', body: JSON.stringify(status()) }
    case 'GET /ping':
      return ping && { status: 200, contentType: 'application/json', body: JSON.stringify(await ping(target)) }
    case 'POST /unpin':
      return unpin?.(searchParams.get('name') ?? '') === true ? text(200, 'unpinned\n') : text(404, 'not pinned\n')
    default:
      return method === 'GET' ? await answerProbe({ metrics, health }, pathname) : undefined
  }
}

/** `/metrics`, `/readyz` and `/livez`: what may be asked without any right. */
export async function answerProbe(
  { metrics, health }: Pick<ControlOptions, 'metrics' | 'health'>,
  pathname: string,
): Promise<ControlResponse | undefined> {
  switch (pathname) {
    case '/metrics':
      return text(200, await metrics.render())
    case '/readyz': {
      const waitingFor = health.waitingFor()
      return waitingFor.length === 0 ? text(200, 'ready\n') : text(503, `waits for ${waitingFor.join(', ')}\n`)
    }
    case '/livez':
      return text(200, 'alive\n')
    default:
      return undefined
  }
}

function text(status: number, body: string): ControlResponse {
  return { status, contentType: 'text/plain; charset=utf-8', body }
}
