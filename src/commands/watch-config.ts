import { dirname } from 'node:path'
import {
  ConfigError,
  type Configs,
  changedKeysOf,
  checkFiles,
  type Environment,
  type LoadedConfig,
  openConfig,
  type Role,
  renderProblem,
} from '../config/index.ts'
import { createLoggedTasks, describeError, type Logger } from '../observability/index.ts'
import { FolderWatch, fileVersionOf, folderIdentityOf, sleep } from '../runtime/index.ts'

/** Who belongs to the mesh, and what a relay gives them: takes effect without a restart in every role with a tunnel. */
export const membershipKeys: readonly string[] = [
  'modules.edgeTunnel.psk.path',
  'modules.edgeTunnel.psk.previousPath',
  'modules.edgeTunnel.trust',
  'modules.edgeTunnel.peers',
  'modules.edgeTunnel.revoked',
  'modules.edgeTunnel.relay',
]

/** Which file to follow and what may change while the process runs. */
export interface ConfigWatchOptions<R extends Role> {
  /** What the process was started with. */
  readonly loaded: LoadedConfig<R>
  readonly env: Environment
  /** Paths of the keys that take effect without a restart. */
  readonly reloadable: readonly string[]
  /** Puts a valid configuration in force that differs in such keys. */
  readonly onChange: (config: Configs[R]) => Promise<void>
  readonly logger: Logger
  /** How often the file is looked at without a file event. */
  readonly pollMs?: number
}

/**
 * Follows the configuration file through rewrites, renames and swapped links. A file that is not valid changes nothing
 * and is logged once; a valid one is put in force as a whole, and keys that need a restart are named. Returns at once.
 */
export function startConfigWatch<R extends Role>(options: ConfigWatchOptions<R>): AsyncDisposable {
  const { logger } = options
  const tasks = createLoggedTasks(logger, 'watching the configuration ended')
  const reload = new ConfigReload(options)
  tasks.run('configuration watch', (signal) => follow(options, reload, signal))
  return tasks
}

async function follow<R extends Role>(
  { loaded, pollMs = 2000 }: ConfigWatchOptions<R>,
  reload: ConfigReload<R>,
  signal: AbortSignal,
): Promise<void> {
  // A link may lead out of the folder; what happens there is found by polling.
  const directory = dirname(loaded.file)
  using watch = new FolderWatch(directory, pollMs)
  for (;;) {
    watch.follow(await folderIdentityOf(directory).catch(() => undefined))
    await reload.look(signal)
    await watch.changed(signal)
  }
}

const settleMs = 50
const mostLooks = 20

/** Compares the file with what is in force; says each thing once. */
class ConfigReload<R extends Role> {
  readonly #options: ConfigWatchOptions<R>
  /** The last one whose reloadable keys were put in force. */
  #inForce: Configs[R]
  #version: string | undefined = ''
  /** What was said last of the file, and of keys that wait for a restart. */
  #problems = ''
  #waiting = ''
  /** Why the file is not in force although it is valid. */
  #failure = ''

  constructor(options: ConfigWatchOptions<R>) {
    this.#options = options
    this.#inForce = options.loaded.config
  }

  async look(signal: AbortSignal): Promise<void> {
    const version = await this.#settledVersion(signal)
    // A problem may lie in another file, such as the pre-shared key, and a failure in want of files or memory.
    if (version === this.#version && this.#problems === '' && this.#failure === '') return
    this.#version = version
    const opened = this.#open()
    if (opened !== undefined) await this.#accept(opened)
  }

  /** The version of the file once it no longer changes: editors empty, write, remove and rename in several steps. */
  async #settledVersion(signal: AbortSignal): Promise<string | undefined> {
    const read = () => fileVersionOf(this.#options.loaded.file).catch(() => undefined)
    let version = await read()
    for (let look = 0; version !== this.#version && look < mostLooks; look++) {
      await sleep(settleMs, signal)
      const later = await read()
      if (later === version) break
      version = later
    }
    return version
  }

  #open(): LoadedConfig<R> | undefined {
    const { loaded, env } = this.#options
    try {
      const opened = openConfig(loaded.role, loaded.file, env)
      checkFiles(opened)
      return opened
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      this.#reject(error)
      return undefined
    }
  }

  #reject({ message, problems }: ConfigError): void {
    if (message === this.#problems) return
    this.#problems = message
    for (const problem of problems) {
      const reason = renderProblem(problem)
      this.#options.logger.error({ reason }, 'the configuration file is not valid; what is in force stays')
    }
  }

  async #accept(opened: LoadedConfig<R>): Promise<void> {
    const { loaded, reloadable, logger } = this.#options
    const isReloadable = (key: string) => reloadable.some((known) => key === known || key.startsWith(`${known}.`))
    if (this.#problems !== '') logger.info({ file: opened.file }, 'the configuration file is valid again')
    this.#problems = ''
    const waiting = changedKeysOf(loaded.config, opened.config).filter((key) => !isReloadable(key))
    const reason = waiting.join(', ')
    if (reason !== '' && reason !== this.#waiting) {
      logger.warn({ reason }, 'changed keys of the configuration take effect at the next start')
    }
    this.#waiting = reason
    await this.#apply(opened, changedKeysOf(this.#inForce, opened.config).filter(isReloadable))
  }

  async #apply(opened: LoadedConfig<R>, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) {
      this.#failure = ''
      return
    }
    const { logger, onChange } = this.#options
    const reason = keys.join(', ')
    try {
      await onChange(opened.config)
    } catch (error) {
      const failure = `${reason}: ${describeError(error)}`
      if (failure !== this.#failure) {
        logger.error({ reason, error }, 'the changed configuration cannot be put in force; what is in force stays')
      }
      this.#failure = failure
      return
    }
    this.#failure = ''
    this.#inForce = opened.config
    logger.info({ reason }, 'configuration reloaded')
    const changed = opened.notices.filter((notice) => keys.some((key) => notice.includes(`: ${key}: `)))
    for (const notice of changed) logger.warn({ reason: notice }, 'configuration notice')
  }
}
