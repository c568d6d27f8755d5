import { checkFiles, type LoadedConfig, openConfig, type Role } from '../config/index.ts'
import { nameProcess } from '../linux/index.ts'
import {
  createHealth,
  createLogger,
  createMetrics,
  type Health,
  type Logger,
  type Metrics,
} from '../observability/index.ts'
import type { CommandContext } from './command.ts'

/** What every long-running command starts with. */
export interface Boot<R extends Role> {
  readonly loaded: LoadedConfig<R>
  readonly config: LoadedConfig<R>['config']
  readonly logger: Logger
  /** A logger whose lines name a part of the process. */
  readonly loggerOf: (component: string) => Logger
  readonly metrics: Metrics
  readonly health: Health
  readonly startedAt: Date
  /** Aborts when the process is asked to stop. */
  readonly signal: AbortSignal
}

/** Reads the configuration of a role and what it names, and says in the log which keys change nothing. */
export function boot<R extends Role>(role: R, file: string, context: CommandContext): Boot<R> {
  const loaded = openConfig(role, file, context.env)
  checkFiles(loaded)
  const { config } = loaded
  nameProcess(`edgemesh-${role}`)
  const logger = createLogger(config.logLevel, config.nodeName)
  const loggerOf = (component: string) => logger.child({ component })
  const version = `${context.build.version} (${context.build.commit})`
  loggerOf(role).info({ version, file }, 'starting')
  for (const notice of loaded.notices) loggerOf('config').warn({ reason: notice }, 'configuration notice')
  const { signal } = context
  const startedAt = new Date()
  return { loaded, config, logger, loggerOf, metrics: createMetrics(), health: createHealth(), startedAt, signal }
}
