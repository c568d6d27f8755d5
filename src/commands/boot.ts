import process from 'node:process'
import { checkFiles, type LoadedConfig, openConfig, type Role } from '../config/index.ts'
import {
  createServiceManager,
  loadNativeFunctions,
  type NativeFunctions,
  nameProcess,
  type ServiceManager,
} from '../linux/index.ts'
import { acquireInstanceLock } from '../net/index.ts'
import {
  createHealth,
  createLogger,
  createMetrics,
  type Health,
  type Logger,
  type Metrics,
} from '../observability/index.ts'
import { aborted } from '../runtime/index.ts'
import type { CommandContext } from './command.ts'
import { createBusyMeter, lastResortCollection, startMemoryTrim } from './trim-memory.ts'

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
  /** Absent where its addon cannot be loaded. */
  readonly native: NativeFunctions | undefined
  readonly serviceManager: ServiceManager
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
  const { signal, env } = context
  const startedAt = new Date()
  const native = loadNativeFunctions(loggerOf('linux'))
  const serviceManager = createServiceManager({ env, native, pid: process.pid, logger: loggerOf('linux') })
  const seen = { logger, loggerOf, metrics: createMetrics(), health: createHealth() }
  return { loaded, config, ...seen, startedAt, native, serviceManager, signal }
}

/** Lets one instance of the role run in this network namespace; rejects with an `AlreadyRunningError`. */
export function lockInstance<R extends Role>({ loaded, native, loggerOf }: Boot<R>): Promise<AsyncDisposable> {
  const { role } = loaded
  if (native === undefined) return acquireInstanceLock(role)
  return acquireInstanceLock(role, {
    ownerOf: (name) => native.ownerOf(name),
    user: process.getuid?.() ?? 0,
    onStranger: (user) => {
      loggerOf(role).warn(
        { reason: `user ${user} listens on it` },
        'the name of the instance lock is held by a stranger',
      )
    },
  })
}

/** Says that all parts of the role stand, and waits until it is asked to stop. */
export async function untilStopped<R extends Role>(base: Boot<R>): Promise<void> {
  const { native, serviceManager, signal, loggerOf } = base
  const logger = loggerOf(base.loaded.role)
  const collect = lastResortCollection()
  const seen = { busyPart: createBusyMeter(), heldBytes: () => process.memoryUsage.rss() }
  await using _trim = startMemoryTrim({ native, collect, ...seen, logger })
  serviceManager.ready()
  await aborted(signal)
  serviceManager.stopping()
}
