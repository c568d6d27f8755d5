import type { Catalog } from '../catalog/index.ts'
import type { DnsServer } from '../dns/index.ts'
import type { ObjectSource, ObjectSourceStatus } from '../kube/index.ts'
import type { ServiceProxy } from '../proxy/index.ts'
import type { Tunnel } from '../tunnel/index.ts'
import type { Boot } from './boot.ts'
import type { BuildInfo } from './command.ts'
import { startControl } from './control.ts'
import { headOf, type MetadataStatus, type StatusDocument } from './status-document.ts'

/** The parts of a running agent; absent ones are off. */
export interface AgentParts {
  readonly catalog: Catalog
  readonly source: ObjectSource
  readonly dns: DnsServer | undefined
  readonly proxy: ServiceProxy | undefined
  readonly tunnel: Tunnel | undefined
}

/** Serves the agent's status on its control socket. */
export function startAgentControl(base: Boot<'agent'>, build: BuildInfo, parts: AgentParts): Promise<AsyncDisposable> {
  const { metrics, health, config } = base
  return startControl({
    runtimeDir: config.runtimeDir,
    metrics,
    health,
    status: () => agentStatusOf(base, build, parts),
    unpin: parts.tunnel?.unpin,
  })
}

function agentStatusOf(base: Boot<'agent'>, build: BuildInfo, parts: AgentParts): StatusDocument {
  const dns = parts.dns?.status()
  const proxy = parts.proxy?.status()
  return {
    ...headOf('agent', base, build),
    metadata: metadataOf(parts.catalog, parts.source.status()),
    ...(dns !== undefined && { dns: { listening: [`${dns.address}:${dns.port}`], upstreams: dns.upstreams } }),
    ...(proxy !== undefined && { proxy }),
    ...(parts.tunnel !== undefined && { tunnel: parts.tunnel.status() }),
  }
}

function metadataOf({ current }: Catalog, source: ObjectSourceStatus): MetadataStatus {
  return {
    source: `${source.files} files in ${source.directory}`,
    services: current.services.size,
    nodes: current.nodes.size,
    problems: source.errors.map(({ file, line, message }) => `${file}:${line}: ${message}`),
  }
}
