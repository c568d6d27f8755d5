import { connect } from 'node:net'
import { keepAliveDelayMs } from './direct-dialer.ts'
import type { TcpSocket } from './tcp-listener.ts'

/** Connects to a host by address or name; rejects with the socket's error or the signal's reason. */
export function connectTcp(host: string, port: number, signal: AbortSignal): Promise<TcpSocket> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveDelayMs })
    const onAbort = () => {
      socket.destroy()
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    // Stays for the socket's life: it may fail before its next owner listens, and that must not end the process.
    socket.on('error', (error) => {
      signal.removeEventListener('abort', onAbort)
      reject(error)
    })
    socket.once('connect', () => {
      signal.removeEventListener('abort', onAbort)
      resolve(socket)
    })
  })
}
