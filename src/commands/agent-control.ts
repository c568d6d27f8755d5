import type { Catalog } from '../catalog/index.ts'
import type { DnsServer } from '../dns/index.ts'
import type { ObjectSource, ObjectSourceStatus } from '../kube/index.ts'
import type { HostRoutes, ServiceProxy } from '../proxy/index.ts'
import type { Tunnel } from '../tunnel/index.ts'
import type { Boot } from './boot.ts'
import type { CatalogMemory } from './catalog-memory.ts'
import type { BuildInfo } from './command.ts'
import { startControl } from './control.ts'
import type { MetricsServer } from './metrics-server.ts'
import { pingTargets } from './ping-targets.ts'
import { headOf, type MetadataStatus, type StatusDocument } from './status-document.ts'

/** The parts of a running agent; absent ones are off. */
export interface AgentParts {
  readonly catalog: Catalog
  /** Absent where a folder of manifests is the source. */
  readonly memory: CatalogMemory | undefined
  readonly source: ObjectSource
  readonly dns: DnsServer | undefined
  readonly proxy: ServiceProxy | undefined
  readonly hostRoutes: HostRoutes | undefined
  readonly tunnel: Tunnel | undefined
  readonly metricsServer: MetricsServer
}

/** Serves the agent's status on its control socket. */
export function startAgentControl(base: Boot<'agent'>, build: BuildInfo, parts: AgentParts): Promise<AsyncDisposable> {
  const { metrics, health, config } = base
  metrics.observe('services', 'Services known', [], () => [{ value: parts.catalog.current.services.size }])
  return startControl({
    runtimeDir: config.runtimeDir,
    metrics,
    health,
    status: () => agentStatusOf(base, build, parts),
    unpin: parts.tunnel?.unpin,
    ping: (target) => pingTargets({ target, nodeName: config.nodeName, ...parts }),
  })
}

function agentStatusOf(base: Boot<'agent'>, build: BuildInfo, parts: AgentParts): StatusDocument {
  const dns = parts.dns?.status()
  const proxy = parts.proxy?.status()
  const scraped = parts.metricsServer.status()
  return {
    ...headOf('agent', base, build),
    metadata: { ...memoryOf(parts.memory), ...metadataOf(parts.catalog, parts.source.status()) },
    ...(dns !== undefined && { dns: { listening: [`${dns.address}:${dns.port}`], upstreams: dns.upstreams } }),
    ...(proxy !== undefined && { proxy }),
    ...(parts.hostRoutes !== undefined && { hostRoutes: parts.hostRoutes.status() }),
    ...(parts.tunnel !== undefined && { tunnel: parts.tunnel.status() }),
    ...(scraped !== undefined && { metrics: scraped }),
  }
}

/** How what is remembered fares. */
export function memoryOf(
  memory: CatalogMemory | undefined,
): Pick<MetadataStatus, 'snapshotAgeSeconds' | 'snapshotProblem'> {
  const { ageSeconds, problem } = memory?.status() ?? {}
  return {
    ...(ageSeconds !== undefined && { snapshotAgeSeconds: ageSeconds }),
    ...(problem !== undefined && { snapshotProblem: problem }),
  }
}

/** How the source of objects fares. */
export function metadataOf({ current }: Catalog, source: ObjectSourceStatus): MetadataStatus {
  const { services, nodes, destinationRules } = current
  const counts = { services: services.size, nodes: nodes.size, destinationRules: destinationRules.size }
  if (source.kind === 'manifests') {
    const problems = source.errors.map(({ file, line, message }) => `${file}:${line}: ${message}`)
    return { source: `${source.files} files in ${source.directory}`, ...counts, problems }
  }
  const { origin, url, reason, resources } = source
  const problems = resources.flatMap(({ kind, lastError, malformed, incomplete }) => [
    ...(lastError === undefined ? [] : [`${kind}: ${lastError}`]),
    ...(malformed === 0 ? [] : [`${kind}: ${malformed} objects cannot be used, see the log`]),
    ...(incomplete === 0 ? [] : [`${kind}: of ${incomplete} objects something is left out, see the log`]),
  ])
  return {
    source: origin === undefined ? `no API yet (${reason})` : `${origin} ${url} (${reason})`,
    ...counts,
    problems,
  }
}
