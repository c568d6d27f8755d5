import { join } from 'node:path'
import { type ControlResponse, startControlServer } from '../net/index.ts'
import type { Health, Metrics } from '../observability/index.ts'
import type { StatusDocument } from './status-document.ts'

/** The control socket of a role, in its `runtimeDir`. */
export function controlSocketOf(runtimeDir: string): string {
  return join(runtimeDir, 'control.sock')
}

/** Serves `/status`, `/metrics`, `/readyz` and `/livez` on the control socket. */
export function startControl(options: {
  readonly runtimeDir: string
  readonly status: () => StatusDocument
  readonly metrics: Metrics
  readonly health: Health
}): Promise<AsyncDisposable> {
  const { status, metrics, health } = options
  const pages: Readonly<Record<string, () => ControlResponse | Promise<ControlResponse>>> = {
    '/status': () => ({ status: 200, contentType: 'application/json', body: JSON.stringify(status()) }),
    '/metrics': async () => text(200, await metrics.render()),
    '/readyz': () => {
      const waitingFor = health.waitingFor()
      return waitingFor.length === 0 ? text(200, 'ready\n') : text(503, `waits for ${waitingFor.join(', ')}\n`)
    },
    '/livez': () => text(200, 'alive\n'),
  }
  return startControlServer({ path: controlSocketOf(options.runtimeDir), handler: (url) => pages[url]?.() })
}

function text(status: number, body: string): ControlResponse {
  return { status, contentType: 'text/plain; charset=utf-8', body }
}
