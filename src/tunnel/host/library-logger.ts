import type { ComponentLogger, Logger as LibraryLogger } from '@libp2p/interface'

/**
 * Keeps the library silent: everything worth knowing reaches our log where it is handled. It also saves the memory and
 * time that the library's own logger spends per stream on scopes nobody reads.
 */
export function createSilentLibraryLogger(): ComponentLogger {
  const ignore = () => {}
  const logger: LibraryLogger = Object.assign(ignore, {
    error: ignore,
    trace: ignore,
    enabled: false,
    newScope: () => logger,
  })
  return { forComponent: () => logger }
}
