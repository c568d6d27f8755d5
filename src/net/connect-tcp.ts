import { connect } from 'node:net'
import { keepAliveDelayMs } from './direct-dialer.ts'
import type { TcpSocket } from './tcp-listener.ts'
import { whenConnected } from './when-connected.ts'

/** Connects to a host by address or name; rejects with the socket's error or the signal's reason. */
export async function connectTcp(host: string, port: number, signal: AbortSignal): Promise<TcpSocket> {
  signal.throwIfAborted()
  const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveDelayMs })
  return await whenConnected(socket, signal)
}
