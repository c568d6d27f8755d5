import { startTunnelServer } from '../tunnel/index.ts'
import { boot, lockInstance, untilStopped } from './boot.ts'
import type { CommandContext } from './command.ts'
import { startControl } from './control.ts'
import { startMetricsServer } from './metrics-server.ts'
import { headOf } from './status-document.ts'
import { type ConfigWatchOptions, membershipKeys, startConfigWatch } from './watch-config.ts'

/** The boot sequence of `edgemesh server`; disposal stops in reverse order, also when a later start throws. */
export async function run(configFile: string, context: CommandContext): Promise<number> {
  const base = boot('server', configFile, context)
  const { config, metrics, health } = base
  const logger = base.loggerOf('server')
  await using running = new AsyncDisposableStack()
  running.use(base.serviceManager)
  running.use(await lockInstance(base))

  const server = running.use(
    await startTunnelServer({
      config: config.modules.edgeTunnel,
      nodeName: config.nodeName,
      stateDir: config.stateDir,
      logger: base.loggerOf('tunnel'),
      metrics,
      health,
    }),
  )
  const metricsServer = running.use(startMetricsServer(base))
  const status = () => {
    const scraped = metricsServer.status()
    const head = headOf('server', base, context.build)
    return { ...head, server: server.status(), ...(scraped !== undefined && { metrics: scraped }) }
  }
  running.use(await startControl({ runtimeDir: config.runtimeDir, metrics, health, status, unpin: server.unpin }))
  const { loaded } = base
  const watchLogger = base.loggerOf('config')
  const onChange: ConfigWatchOptions<'server'>['onChange'] = ({ modules }) => server.reload(modules.edgeTunnel)
  running.use(startConfigWatch({ loaded, env: context.env, reloadable: membershipKeys, onChange, logger: watchLogger }))

  logger.info({ peer: server.status().peerId }, 'server ready')
  await untilStopped(base)
  logger.info({}, 'server stopping')
  return 0
}
