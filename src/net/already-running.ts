import { createServer, type Server } from 'node:net'

/** Another instance owns what this one needs: its control socket or its lock. */
export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError'
  readonly code = 'EDGEMESH_ALREADY_RUNNING'
  readonly remedy = 'stop it first; "edgemesh status" shows its process'

  constructor(what: string, options?: ErrorOptions) {
    super(`Cannot start: another instance is running, it holds ${what}`, options)
  }
}

/** Whom an instance lock is told about. */
export interface InstanceLockOptions {
  /** The user that listens on an abstract socket; -1 when that cannot be told. */
  readonly ownerOf: (name: string) => number
  /** Our own user. */
  readonly user: number
  /** Told of users that hold a name of ours. */
  readonly onStranger: (user: number) => void
}

/** More than strangers are likely to hold; whoever holds them all is named in the error. */
const mostNames = 16

/**
 * Lets one process per network namespace hold `name`; throws `AlreadyRunningError` while another one does. The lock
 * is an abstract Unix socket: it has no file to clean up and goes with the process, however that ends. Every local
 * user may listen on such a name: with `options`, one that is held by anybody but root and us is passed over for the
 * next.
 */
export async function acquireInstanceLock(name: string, options?: InstanceLockOptions): Promise<AsyncDisposable> {
  for (let attempt = 0; attempt < mostNames; attempt++) {
    const lock = attempt === 0 ? `edgemesh-${name}` : `edgemesh-${name}.${attempt}`
    const server = await listenOn(lock)
    if (server !== undefined) return ownedLock(server)
    const owner = options?.ownerOf(lock)
    if (owner === undefined || owner === 0 || owner === options?.user)
      throw new AlreadyRunningError(`the lock "${lock}"`)
    options?.onStranger(owner)
  }
  throw new AlreadyRunningError(`the lock "edgemesh-${name}", and other users hold the names after it`)
}

/** Undefined when somebody else does. */
function listenOn(lock: string): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EADDRINUSE') resolve(undefined)
      else reject(new Error(`Cannot take the lock "${lock}"`, { cause }))
    })
    server.listen(`\0${lock}`, () => resolve(server))
  })
}

function ownedLock(server: Server): AsyncDisposable {
  server.on('error', () => {})
  server.unref()
  return {
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  }
}
