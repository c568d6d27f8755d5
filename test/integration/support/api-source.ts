/** An API double, a source that follows it quickly, and a catalog to see what it delivers. */
import assert from 'node:assert/strict'
import { type CatalogOptions, createCatalog } from '../../../src/catalog/index.ts'
import { kubeSchema } from '../../../src/kube/config.ts'
import { type ApiSourceOptions, startApiSource } from '../../../src/kube/index.ts'
import { createMetrics, type LogFields, type Logger, silentLogger } from '../../../src/observability/index.ts'
import { ApiDouble, type DoubleHabits } from './api-double.ts'
import { paths } from './api-objects.ts'

/** Retries without the waits that spare real servers. */
export const quickTiming = {
  retry: { firstMs: 10, maxMs: 100, jitter: 0.5 },
  watchSeconds: [300, 600],
  recheckMs: 100,
  shortWatchMs: 100,
  random: Math.random,
  patienceMs: 1_000,
} as const satisfies NonNullable<ApiSourceOptions['timing']>

/** How to set a test up. */
export interface FollowOptions {
  readonly habits?: DoubleHabits
  readonly served?: readonly string[]
  /** Prepares the double before the source starts. */
  readonly prepare?: (double: ApiDouble) => void
  /** `kubeAPIConfig`; default: the double as master. */
  readonly config?: (double: ApiDouble) => object
  readonly source?: Partial<ApiSourceOptions>
  readonly catalog?: CatalogOptions
}

const standardPaths = [paths.services, paths.nodes, paths.slicesV1]

/** Starts all three; what the source logs above debug is kept. */
export async function followDouble(options: FollowOptions = {}) {
  await using starting = new AsyncDisposableStack()
  const { habits, served = standardPaths, prepare, config = ({ url }) => ({ master: url }) } = options
  const double = starting.use(await new ApiDouble({ served, ...(habits && { habits }) }).start())
  prepare?.(double)
  const catalog = starting.use(createCatalog({ debounceMs: 1, ...options.catalog }))
  const logged: (LogFields & { readonly level: 'info' | 'warn'; readonly message: string })[] = []
  const logger: Logger = {
    ...silentLogger,
    info: (fields, message) => logged.push({ ...fields, level: 'info', message }),
    warn: (fields, message) => logged.push({ ...fields, level: 'warn', message }),
    child: () => logger,
  }
  const metrics = createMetrics()
  const source = starting.use(
    startApiSource({
      config: kubeSchema.parse(config(double)),
      env: {},
      sink: catalog,
      logger,
      metrics,
      userAgent: 'edgemesh/test',
      serviceAccount: '/nonexistent',
      timing: quickTiming,
      ...options.source,
    }),
  )
  const running = starting.move()
  return {
    double,
    catalog,
    source,
    metrics,
    logged,
    warnings: () => logged.filter(({ level }) => level === 'warn').map(({ reason }) => reason ?? ''),
    resource: (kind: string) => source.status().resources.find((resource) => resource.kind === kind),
    services: () =>
      [...catalog.current.services.values()].map(({ name, clusterIPs }) => `${name} ${clusterIPs}`).sort(),
    synced: () =>
      until(
        () => catalog.isSynced,
        () => source.status(),
      ),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** Resolves when the condition holds; fails with what `explain` says after ten seconds. */
export async function until(condition: () => boolean, explain: () => unknown = () => 'not so'): Promise<void> {
  for (let turn = 0; turn < 2000 && !condition(); turn++) await new Promise((resolve) => setTimeout(resolve, 5))
  assert.ok(condition(), JSON.stringify(explain()))
}
