import { type SocketAddress, startTcpListener, type TcpSocket } from '../../net/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import { readBytes } from '../frames.ts'
import { punchMagic } from './punch-messages.ts'

/** A port that two nodes can meet at: dialled from and to. */
export interface MeetingPort {
  listeningPort(): number
  /** Dials IPv4 from the port; rejects with a `MetInTheMiddleError` when the peer's dial was first. */
  dialFromPort(target: SocketAddress, signal: AbortSignal): Promise<TcpSocket>
  /** Who takes the connections to the port that begin with these bytes, which are taken off, until disposed. */
  handleRaw(magic: string, onSocket: (socket: TcpSocket) => void): Disposable
}

/** Who connects and says nothing in this time is no peer. */
const silentMs = 3000

/**
 * Opens a port of its own for one more connection to a peer, since there can be only one between two given ports.
 * Disposal frees the port, and leaves the connections to whoever has taken them.
 */
export async function openSidePort(): Promise<MeetingPort & Disposable> {
  let handler: { readonly magic: string; readonly onSocket: (socket: TcpSocket) => void } | undefined
  const listener = await startTcpListener({
    host: '0.0.0.0',
    port: 0,
    reusePort: true,
    backlog: 16,
    onConnection: (socket) =>
      void readMagic(socket).then((magic) => {
        if (handler !== undefined && magic === handler.magic) handler.onSocket(socket)
        else socket.destroy()
      }),
  })
  return {
    listeningPort: () => listener.port,
    dialFromPort: (target, signal) => listener.dialFrom(target, signal),
    handleRaw(magic, onSocket) {
      handler = { magic, onSocket }
      return {
        [Symbol.dispose]() {
          handler = undefined
        },
      }
    },
    [Symbol.dispose]: () => listener.stopAccepting(),
  }
}

async function readMagic(socket: TcpSocket): Promise<string | undefined> {
  using limit = new TimeLimit(silentMs)
  const magic = await readBytes(socket, punchMagic.length, limit.signal).catch(() => undefined)
  return magic?.toString('latin1')
}
