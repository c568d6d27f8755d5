import type { Catalog, ObjectSink } from '../catalog/index.ts'
import { type ObjectSource, startApiSource, startManifestsSource } from '../kube/index.ts'
import type { Boot } from './boot.ts'
import type { CommandContext } from './command.ts'

/**
 * Starts the source of objects that the configuration asks for. A folder is read when this resolves; an API may be
 * away, and then readiness waits for its first list while everything else goes on.
 */
export async function startMetadataSource(
  base: Boot<'agent'>,
  { build, env }: Pick<CommandContext, 'build' | 'env'>,
  catalog: Catalog & ObjectSink,
): Promise<ObjectSource> {
  const { signal, metrics } = base
  const config = base.config.kubeAPIConfig
  const logger = base.loggerOf('kube')
  const directory = config.manifests
  if (directory !== '') return await startManifestsSource({ directory, sink: catalog, logger, signal })
  blockUntilSynced(base, catalog)
  return startApiSource({ config, env, sink: catalog, logger, metrics, userAgent: `edgemesh/${build.version}` })
}

/** Ends by itself with the first list, and with the process otherwise. */
function blockUntilSynced({ health }: Boot<'agent'>, catalog: Catalog): void {
  if (catalog.isSynced) return
  const waiting = health.block('the first list of objects')
  const subscription = catalog.subscribe(() => {
    if (!catalog.isSynced) return
    waiting[Symbol.dispose]()
    queueMicrotask(() => subscription[Symbol.dispose]())
  })
}
