import { setTimeout as delay } from 'node:timers/promises'
import { MetInTheMiddleError, resetStream, type SocketAddress, type TcpSocket } from '../../net/index.ts'
import { aborted, TimeLimit } from '../../runtime/index.ts'
import { readBytes } from '../frames.ts'
import type { Host } from '../host/host.ts'
import { punchMagic, tokenBytes } from './punch-messages.ts'

/** Two nodes about to dial each other. */
export interface MeetingOptions {
  /** Known to the two alone, base64url. */
  readonly token: string
  /** Where the peer may be. */
  readonly candidates: readonly SocketAddress[]
  readonly signal: AbortSignal
  /** Takes each socket in which the peer has shown the token; more than one when several ways work. */
  onSocket(socket: TcpSocket): void
}

const preambleTimeoutMs = 3000

/** After a refusal: the peer's dial has not opened its NAT yet, which resets what it does not know. */
const pauseMs = 60

/** Makes and takes connections with peers that dial at the same moment. */
export class MeetingPoint implements Disposable {
  readonly #host: Pick<Host, 'dialFromPort' | 'handleRaw'>
  readonly #expected = new Map<string, (socket: TcpSocket) => void>()
  readonly #serving: Disposable

  constructor(host: Pick<Host, 'dialFromPort' | 'handleRaw'>) {
    this.#host = host
    this.#serving = host.handleRaw(punchMagic, (socket) => void this.#onAccepted(socket))
  }

  [Symbol.dispose](): void {
    this.#serving[Symbol.dispose]()
  }

  /** Dials all candidates and expects the peer's own dials until the signal aborts; never rejects. */
  async meet({ token, candidates, signal, onSocket }: MeetingOptions): Promise<void> {
    const preamble = preambleOf(token)
    this.#expected.set(token, (socket) => {
      socket.write(preamble)
      onSocket(socket)
    })
    try {
      await Promise.all(
        candidates.map(async (candidate) => {
          const socket = await this.#dial(candidate, preamble, signal)
          if (socket !== undefined) onSocket(socket)
        }),
      )
      await aborted(signal)
    } finally {
      this.#expected.delete(token)
    }
  }

  async #dial(candidate: SocketAddress, preamble: Buffer, signal: AbortSignal): Promise<TcpSocket | undefined> {
    while (!signal.aborted) {
      try {
        const socket = await this.#host.dialFromPort(candidate, signal)
        socket.write(preamble)
        if (await isPreamble(socket, preamble, signal)) return socket
        // Somebody else, or the peer a moment before it expects us.
        resetStream(socket, new Error('not the peer'))
      } catch (error) {
        // The listener has the connection.
        if (error instanceof MetInTheMiddleError) return undefined
      }
      await delay(pauseMs * (0.5 + Math.random()))
    }
    return undefined
  }

  async #onAccepted(socket: TcpSocket): Promise<void> {
    socket.on('error', () => {})
    using limit = new TimeLimit(preambleTimeoutMs)
    const token = await readBytes(socket, tokenBytes, limit.signal).catch(() => undefined)
    const take = token && this.#expected.get(token.toString('base64url'))
    if (take === undefined) socket.destroy()
    else take(socket)
  }
}

function preambleOf(token: string): Buffer {
  return Buffer.concat([Buffer.from(punchMagic), Buffer.from(token, 'base64url')])
}

async function isPreamble(socket: TcpSocket, preamble: Buffer, signal: AbortSignal): Promise<boolean> {
  using limit = new TimeLimit(preambleTimeoutMs, signal)
  const said = await readBytes(socket, preamble.length, limit.signal).catch(() => undefined)
  return said?.equals(preamble) ?? false
}
