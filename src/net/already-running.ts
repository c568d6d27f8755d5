import { createServer } from 'node:net'

/** Another instance owns what this one needs: its control socket or its lock. */
export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError'
  readonly code = 'EDGEMESH_ALREADY_RUNNING'

  constructor(what: string, options?: ErrorOptions) {
    super(`Cannot start: another instance is running, it holds ${what}`, options)
  }
}

/**
 * Lets one process per network namespace hold `name`; throws `AlreadyRunningError` while another one does. The lock
 * is an abstract Unix socket: it has no file to clean up and goes with the process, however that ends.
 */
export async function acquireInstanceLock(name: string): Promise<AsyncDisposable> {
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      // The cause says no more, and says it with the zero byte of the socket's name, which logs cannot show.
      if (cause.code === 'EADDRINUSE') reject(new AlreadyRunningError(`the lock "edgemesh-${name}"`))
      else reject(new Error(`Cannot take the lock "edgemesh-${name}"`, { cause }))
    })
    server.listen(`\0edgemesh-${name}`, resolve)
  })
  server.on('error', () => {})
  server.unref()
  return {
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  }
}
