import * as z from 'zod'
import { resetStream, type SocketAddress, type TcpSocket } from '../../net/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import { encodeFrame, readFrame } from '../frames.ts'
import type { Host } from '../host/host.ts'

/** A connection that asks where it seems to come from begins with this. */
export const observationMagic = 'EDGESEEN'

const answerSchema = z.object({ address: z.ipv4(), port: z.int().min(1).max(65535) })
const answerLimitBytes = 256
const patienceMs = 3000

/** Tells whoever connects and asks the address that it is seen with; says nothing else, so it needs no credentials. */
export function serveObservations(host: Pick<Host, 'handleRaw'>): Disposable {
  return host.handleRaw(observationMagic, (socket) => {
    const { remoteAddress: address, remotePort: port } = socket
    socket.on('error', () => {})
    // The asker ends it with a reset: its port is to dial here again, and must not rest in TIME_WAIT.
    const timer = setTimeout(() => socket.destroy(), patienceMs)
    socket.once('close', () => clearTimeout(timer))
    socket.resume().write(encodeFrame({ address: address?.replace(/^::ffff:/, ''), port }))
  })
}

/** Asks a server how a connection from our listening port is seen; rejects when it does not answer. */
export async function observe(
  host: Pick<Host, 'dialFromPort'>,
  server: SocketAddress,
  signal: AbortSignal,
): Promise<SocketAddress> {
  using limit = new TimeLimit(patienceMs, signal)
  const socket: TcpSocket = await host.dialFromPort(server, limit.signal)
  try {
    socket.write(observationMagic)
    return answerSchema.parse(await readFrame(socket, answerLimitBytes, limit.signal))
  } finally {
    resetStream(socket, new Error('observed'))
  }
}
