import type { Logger } from '../observability/index.ts'
import type { NativeFunctions } from './native-functions.ts'

/** Tells systemd, or whoever started us with its protocol (sd_notify), how we are; does nothing for all others. */
export interface ServiceManager extends Disposable {
  /** All listeners stand. From now on signs of life are sent as often as the unit's `WatchdogSec` asks, until disposal. */
  ready(): void
  /** Asked to stop; open connections may still finish. */
  stopping(): void
}

/** What speaking to the service manager needs. */
export interface ServiceManagerOptions {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly native: Pick<NativeFunctions, 'sdNotify'> | undefined
  readonly pid: number
  readonly logger: Logger
}

/** Reads how the service manager wants to be told; sends nothing yet. */
export function createServiceManager({ env, native, pid, logger }: ServiceManagerOptions): ServiceManager {
  const socket = env['NOTIFY_SOCKET'] ?? ''
  const watchdogMs = isFor(env['WATCHDOG_PID'], pid) ? Number(env['WATCHDOG_USEC'] ?? 0) / 1000 : 0
  let watchdog: NodeJS.Timeout | undefined

  function notify(state: string): void {
    if (socket === '') return
    const errno = native?.sdNotify(socket, state)
    if (errno === 0) return
    const reason = errno === undefined ? 'the native addon is not loaded' : `error ${errno}`
    const remedy = 'set EDGEMESH_ADDON_DIR to a folder on a mount without noexec, or Type=exec in the unit'
    logger.warn({ reason, remedy }, 'the service manager cannot be told')
  }

  return {
    ready() {
      notify('READY=1')
      if (watchdogMs > 0) watchdog = setInterval(() => notify('WATCHDOG=1'), watchdogMs / 2).unref()
    },
    stopping: () => notify('STOPPING=1'),
    [Symbol.dispose]: () => clearInterval(watchdog),
  }
}

/** Without a process ID the watchdog is for whoever reads it. */
function isFor(watchdogPid: string | undefined, pid: number): boolean {
  return watchdogPid === undefined || watchdogPid === String(pid)
}
