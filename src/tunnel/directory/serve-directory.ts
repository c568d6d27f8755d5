import { createLoggedTasks, type Logger } from '../../observability/index.ts'
import type { Host } from '../host/host.ts'
import type { RecordBook } from '../records/record-book.ts'
import { DirectoryServer } from './directory-server.ts'
import { directoryProtocol } from './messages.ts'

/** A directory that answers. */
export interface ServedDirectory extends AsyncDisposable {
  /** Names of the agents with a session. */
  readonly connected: readonly string[]
  /** Tells all agents for which nodes nothing more is relayed now, by name, and why. */
  setCapped(capped: ReadonlyMap<string, string>): void
}

const debounceMs = 50

/** Answers the agents that ask this host for the directory, until disposal ends their sessions. */
export async function serveDirectory(parts: {
  readonly host: Pick<Host, 'handle' | 'unhandle'>
  readonly book: RecordBook
  readonly logger: Logger
}): Promise<ServedDirectory> {
  const { host, book, logger } = parts
  await using starting = new AsyncDisposableStack()
  const tasks = starting.use(createLoggedTasks(logger))
  const directory = starting.use(new DirectoryServer({ book, tasks, logger, debounceMs }))
  await host.handle({
    protocol: directoryProtocol,
    maxStreams: 4,
    onStream: (stream, from) => directory.accept(stream, from),
  })
  starting.defer(() => host.unhandle(directoryProtocol))
  const running = starting.move()
  return {
    get connected() {
      return directory.connected
    },
    setCapped: (capped) => directory.setCapped(capped),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}
