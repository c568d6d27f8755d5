import type { Catalog, ObjectKind, ObjectSink, RememberedCatalog } from '../catalog/index.ts'
import type { KubeConfig } from '../kube/config.ts'
import { type ObjectSource, startApiSource, startManifestsSource } from '../kube/index.ts'
import type { Boot } from './boot.ts'
import { type CatalogMemory, startCatalogMemory } from './catalog-memory.ts'
import type { CommandContext } from './command.ts'

/** What an agent knows of the cluster. */
export const agentKinds: readonly ObjectKind[] = ['nodes', 'services', 'endpointSlices', 'destinationRules', 'pods']

/** What the first snapshot waits for: Pods only refine what the others say. */
export const agentAwaits = agentKinds.filter((kind) => kind !== 'pods')

/** What a gateway knows of the cluster; Secrets only as far as Gateways name them. */
export const gatewayKinds: readonly ObjectKind[] = [...agentKinds, 'gateways', 'virtualServices', 'secrets']

/** What the first snapshot of a gateway waits for. */
export const gatewayAwaits: readonly ObjectKind[] = [...agentAwaits, 'gateways', 'virtualServices']

/** What the source of objects depends on; a `Boot` has all of it. */
export type MetadataBase = Pick<Boot<'agent'>, 'loggerOf' | 'metrics' | 'health' | 'signal'> & {
  readonly config: { readonly kubeAPIConfig: KubeConfig; readonly nodeName: string }
}

/**
 * Starts the source of objects that the configuration asks for. A folder is read when this resolves; an API may be
 * away, and then readiness waits for its first list while everything else goes on.
 */
export async function startMetadataSource(
  base: MetadataBase,
  { build, env }: Pick<CommandContext, 'build' | 'env'>,
  catalog: Catalog & ObjectSink,
  kinds: readonly ObjectKind[],
): Promise<ObjectSource> {
  const { metrics, signal } = base
  const config = base.config.kubeAPIConfig
  const common = { sink: catalog, logger: base.loggerOf('kube') }
  if (config.manifests !== '') {
    return await startManifestsSource({ ...common, directory: config.manifests, kinds, signal })
  }
  blockUntilSynced(base, catalog)
  const userAgent = `edgemesh/${build.version}`
  const { nodeName } = base.config
  const isWarm = () => catalog.isSynced
  return startApiSource({ ...common, config, env, kinds, nodeName, metrics, userAgent, isWarm })
}

/**
 * Starts what remembers the catalog from one run to the next; undefined for a folder of manifests, which is on disk
 * itself: a second copy could only contradict it.
 */
export async function startMetadataMemory(
  {
    config,
    loggerOf,
  }: Pick<Boot<'agent'>, 'loggerOf'> & { readonly config: MetadataBase['config'] & { readonly stateDir: string } },
  catalog: RememberedCatalog,
): Promise<CatalogMemory | undefined> {
  if (config.kubeAPIConfig.manifests !== '') return undefined
  return await startCatalogMemory({ catalog, stateDir: config.stateDir, logger: loggerOf('catalog') })
}

/** Ends by itself with the first list, and with the process otherwise. */
function blockUntilSynced({ health }: MetadataBase, catalog: Catalog): void {
  if (catalog.isSynced) return
  const waiting = health.block('the first list of objects')
  const subscription = catalog.subscribe(() => {
    if (!catalog.isSynced) return
    waiting[Symbol.dispose]()
    // The first call can only come later: it was not synced a moment ago.
    subscription[Symbol.dispose]()
  })
}
