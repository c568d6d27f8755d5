import { type ControlHandler, startHttpListener } from '../net/index.ts'
import { createLoggedTasks, describeError, type Health, type Logger, type Metrics } from '../observability/index.ts'
import { aborted, type BackoffPolicy, backoffDelayMs, sleep } from '../runtime/index.ts'
import { answerProbe } from './control.ts'

/** State of the metrics port at one moment. */
export interface MetricsServerStatus {
  /** `127.0.0.1:9999` */
  readonly address: string
  /** Why it is not served now; absent when it is. */
  readonly problem?: string
}

/** The running metrics port. */
export interface MetricsServer extends AsyncDisposable {
  /** Undefined when metrics over TCP are off. */
  status(): MetricsServerStatus | undefined
}

/** What is served where: the parts of a `Boot` that this needs. */
export interface MetricsServerOptions {
  readonly config: {
    readonly modules: {
      readonly edgeTunnel: {
        readonly metricConfig: { readonly enable: boolean; readonly port: number; readonly address: string }
      }
    }
  }
  readonly metrics: Metrics
  readonly health: Health
  readonly loggerOf: (component: string) => Logger
  /** Delays between attempts to bind the port. */
  readonly retry?: BackoffPolicy
}

const defaultRetry: BackoffPolicy = { firstMs: 1000, maxMs: 30_000, jitter: 0.2 }

/**
 * Serves `/metrics`, `/readyz` and `/livez` on `metricConfig`'s port when it is enabled. Returns at once: a port that
 * is taken is no reason not to run, so it is told and tried again until it is free.
 */
export function startMetricsServer(options: MetricsServerOptions): MetricsServer {
  const { enable, port, address: host } = options.config.modules.edgeTunnel.metricConfig
  const logger = options.loggerOf('metrics')
  const tasks = createLoggedTasks(logger, 'serving metrics ended')
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  let problem: string | undefined
  const serve = async (signal: AbortSignal): Promise<void> => {
    await using _listener = await startHttpListener({ host, port, handler: handlerOf(options) })
    problem = undefined
    logger.info({ address }, 'metrics are served')
    await aborted(signal)
  }
  const keepServing = async (signal: AbortSignal): Promise<void> => {
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        await serve(signal)
      } catch (error) {
        if (problem === undefined) logger.warn({ error, address }, 'metrics are not served; trying again')
        problem = describeError(error)
        await sleep(backoffDelayMs(options.retry ?? defaultRetry, failures, Math.random), signal)
      }
    }
  }
  if (enable) tasks.run('metrics', keepServing)
  return {
    status: () => (enable ? { address, ...(problem !== undefined && { problem }) } : undefined),
    [Symbol.asyncDispose]: () => tasks[Symbol.asyncDispose](),
  }
}

function handlerOf(options: MetricsServerOptions): ControlHandler {
  return ({ method, url }) => {
    return method === 'GET' ? answerProbe(options, new URL(url, 'http://metrics').pathname) : undefined
  }
}
