import { type HttpListener, startHttpListener } from '../net/index.ts'
import { createLoggedTasks, type Logger } from '../observability/index.ts'
import type { HealthCheck } from './service-plan.ts'

/** Answers load balancers that ask whether this node has endpoints of a Service, as kube-proxy does. */
export interface HealthChecks extends AsyncDisposable {
  /** Replaces what is answered; ports are opened and closed in the background. */
  set(checks: readonly HealthCheck[]): void
}

/** Replaced in tests. */
export type ListenForChecks = typeof startHttpListener

/** A port that somebody else has, usually kube-proxy, is left to them as long as they have it: they give the same answer. */
export function createHealthChecks(logger: Logger, listen: ListenForChecks = startHttpListener): HealthChecks {
  const tasks = createLoggedTasks(logger)
  let wanted = new Map<number, HealthCheck>()
  const open = new Map<number, HttpListener | undefined>()
  let working = Promise.resolve()

  const openPort = async (port: number): Promise<HttpListener | undefined> => {
    try {
      return await listen({ host: '0.0.0.0', port, handler: () => answerOf(wanted.get(port)) })
    } catch (error) {
      // Told once; tried again with each change.
      if (!open.has(port))
        logger.info({ error, address: `0.0.0.0:${port}` }, 'a health check port is left to whoever has it')
      return undefined
    }
  }
  const converge = async (): Promise<void> => {
    for (const [port, listener] of open) {
      if (wanted.has(port)) continue
      open.delete(port)
      await listener?.[Symbol.asyncDispose]()
    }
    for (const port of wanted.keys()) if (open.get(port) === undefined) open.set(port, await openPort(port))
  }
  const set = (checks: readonly HealthCheck[]): void => {
    wanted = new Map(checks.map((check) => [check.port, check]))
    if (wanted.size === 0 && open.size === 0) return
    const turn = working.then(converge)
    // What one change comes to is no matter of the next one.
    working = turn.catch(() => {})
    tasks.run('health checks', () => turn)
  }
  return {
    set,
    async [Symbol.asyncDispose]() {
      set([])
      await working
      await tasks[Symbol.asyncDispose]()
    },
  }
}

function answerOf(check: HealthCheck | undefined) {
  if (check === undefined) return undefined
  const { namespace, name, localEndpoints } = check
  const body = `${JSON.stringify({ service: { namespace, name }, localEndpoints })}\n`
  return { status: localEndpoints > 0 ? 200 : 503, contentType: 'application/json', body }
}
