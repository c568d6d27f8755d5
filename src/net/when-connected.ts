import type { Socket } from 'node:net'

/** What becomes of a dial besides a connection; by default the socket's own error. */
export interface ConnectOutcome {
  errorOf?(error: NodeJS.ErrnoException): Error
  /** Why a connection that stands is of no use; it is reset then. */
  refusalOf?(socket: Socket): Error | undefined
}

/** Resolves with the socket once it is connected; destroys it and rejects with the signal's reason when that aborts first. */
export function whenConnected(socket: Socket, signal: AbortSignal, outcome: ConnectOutcome = {}): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      socket.destroy()
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    // Stays for the socket's life: it may fail before its next owner listens, and that must not end the process.
    socket.on('error', (error) => {
      signal.removeEventListener('abort', onAbort)
      reject(outcome.errorOf?.(error) ?? error)
    })
    socket.once('connect', () => {
      signal.removeEventListener('abort', onAbort)
      const refusal = outcome.refusalOf?.(socket)
      if (refusal === undefined) {
        resolve(socket)
        return
      }
      socket.resetAndDestroy()
      reject(refusal)
    })
  })
}
