import { describeError } from '../../observability/index.ts'
import { backoffDelayMs, sleep } from '../../runtime/index.ts'
import type { KubeConfig } from '../config.ts'
import type { ApiOrigin } from '../object-source.ts'
import type { LoadConnection } from './access/access.ts'
import { type Environment, inClusterConnection, inClusterUrlOf, masterConnection } from './access/in-cluster.ts'
import { kubeconfigConnection } from './access/kubeconfig.ts'
import { metaServerConnection } from './access/meta-server.ts'
import type { RequestTimeouts } from './api-client.ts'
import { ApiStatusError } from './errors.ts'
import type { OriginHabits } from './reflector.ts'

/** An API that objects can come from. */
export interface Origin {
  readonly origin: ApiOrigin
  readonly load: LoadConnection
  readonly habits: OriginHabits
  /** Why it was chosen, for people. */
  readonly reason: string
}

/** Resolves when the origin answers as an API; throws why not. */
export type Probe = (origin: Origin, timeouts: RequestTimeouts, signal: AbortSignal) => Promise<void>

/** What the choice depends on. */
export interface ChooseOriginOptions {
  readonly config: KubeConfig
  readonly env: Environment
  /** Where a Pod's service account is mounted; tests have their own. */
  readonly serviceAccount?: string
  readonly probe: Probe
  /** Is told what keeps the choice waiting. */
  readonly onWaiting: (reason: string) => void
  readonly random: () => number
}

const serverHabits: OriginHabits = { bookmarks: true, history: true }
const metaServerHabits: OriginHabits = { bookmarks: false, history: false }
/** It is on this node, but asks the cloud first and answers from its own store only when that takes too long. */
const metaServerProbe: RequestTimeouts = { connectMs: 1_000, answerMs: 15_000, idleMs: 15_000, totalMs: 20_000 }
const inClusterProbe: RequestTimeouts = { connectMs: 3_000, answerMs: 5_000, idleMs: 5_000, totalMs: 10_000 }
const retry = { firstMs: 500, maxMs: 30_000, jitter: 0.5 }

/**
 * The API to follow: the one that is configured; else metaServer when it answers; else, in a Pod, the API server of
 * the cluster. While neither answers both are asked again, since either may come up after this process.
 */
export async function chooseOrigin(options: ChooseOriginOptions, signal: AbortSignal): Promise<Origin> {
  const configured = configuredOrigin(options)
  if (configured !== undefined) return configured
  const candidates = detectableOrigins(options)
  for (let attempt = 1; ; attempt++) {
    const failures: string[] = []
    for (const { candidate, timeouts } of candidates) {
      try {
        await options.probe(candidate, timeouts, signal)
        return { ...candidate, reason: [candidate.reason, ...failures].join('; ') }
      } catch (error) {
        signal.throwIfAborted()
        failures.push(explain(candidate, error))
      }
    }
    const reason = [...failures, ...(candidates.length === 1 ? ['in-cluster: this is no Pod'] : [])].join('; ')
    options.onWaiting(reason)
    await sleep(backoffDelayMs(retry, attempt, options.random), signal)
  }
}

function explain({ origin }: Origin, error: unknown): string {
  const isRefused = error instanceof ApiStatusError && [400, 401, 403].includes(error.status)
  const remedy = ' (see kubeAPIConfig.metaServer.security)'
  return `${origin}: ${describeError(error)}${isRefused && origin === 'metaServer' ? remedy : ''}`
}

function configuredOrigin({ config, serviceAccount }: ChooseOriginOptions): Origin | undefined {
  const { kubeConfig, master } = config
  if (kubeConfig !== '') {
    const reason = `kubeAPIConfig.kubeConfig names ${kubeConfig}${master === '' ? '' : `, kubeAPIConfig.master ${master}`}`
    return { origin: 'kubeconfig', load: kubeconfigConnection(kubeConfig, master), habits: serverHabits, reason }
  }
  if (master === '') return undefined
  const load = masterConnection(master, serviceAccount)
  return { origin: 'master', load, habits: serverHabits, reason: `kubeAPIConfig.master names ${master}` }
}

function detectableOrigins({ config, env, serviceAccount }: ChooseOriginOptions) {
  const metaServer: Origin = {
    origin: 'metaServer',
    load: metaServerConnection(config.metaServer, serviceAccount),
    habits: metaServerHabits,
    reason: `metaServer answers at ${config.metaServer.server}`,
  }
  const url = inClusterUrlOf(env)
  if (url === undefined) return [{ candidate: metaServer, timeouts: metaServerProbe }]
  const inCluster: Origin = {
    origin: 'in-cluster',
    load: inClusterConnection(url, serviceAccount),
    habits: serverHabits,
    reason: `KUBERNETES_SERVICE_HOST names ${url}`,
  }
  return [
    { candidate: metaServer, timeouts: metaServerProbe },
    { candidate: inCluster, timeouts: inClusterProbe },
  ]
}
