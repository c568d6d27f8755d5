import { randomBytes } from 'node:crypto'
import * as z from 'zod'
import { connectTcp, ignoreError, resetStream, type SocketAddress } from '../../net/index.ts'
import { createLoggedTasks, describeError, type Logger } from '../../observability/index.ts'
import { aborted, TimeLimit } from '../../runtime/index.ts'
import { answerOnce, askOnce, readBytes } from '../frames.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { socketAddressOf } from '../host/server-address.ts'

/** A node asks a server to dial it from outside, at the address that the server sees and a port that the node names. */
export const dialBackProtocol = '/edgemesh/dial-back/1.0.0'

/** What the server says on the connection that it makes, followed by the node's token. */
export const dialBackMagic = 'EDGEBACK'

const tokenBytes = 16
const frameLimitBytes = 1024
const askTimeoutMs = 8000
const dialTimeoutMs = 4000
const sayMs = 1000

/** Each costs a connection of ours; a node asks once in minutes. */
const maxAsksPerConnection = 2

const askSchema = z.object({ port: z.int().min(1).max(65535), token: z.base64url().length(22) })
const answerSchema = z.union([z.object({ address: z.ipv4() }), z.object({ error: z.string().max(1024) })])

/**
 * Dials nodes that ask for it. Nobody but the asker is ever dialled: the address is the one that its connection comes
 * from, so a node can make a server knock at no other door.
 */
export async function serveDialBacks(
  host: Pick<Host, 'handle' | 'unhandle'>,
  logger: Logger,
): Promise<AsyncDisposable> {
  await using starting = new AsyncDisposableStack()
  const tasks = starting.use(createLoggedTasks(logger))
  await host.handle({
    protocol: dialBackProtocol,
    maxStreams: maxAsksPerConnection,
    onStream: (stream, from) => {
      tasks.run('dial-back request', async (stopping) => {
        using limit = new TimeLimit(askTimeoutMs, stopping)
        const answerTo = (ask: unknown) => dialBack(from, askSchema.parse(ask), limit.signal)
        await answerOnce(stream, answerTo, frameLimitBytes, limit.signal).catch((error: unknown) =>
          logger.debug({ peer: from.peerId, error: describeError(error) }, 'dial-back request failed'),
        )
      })
    },
  })
  starting.defer(() => host.unhandle(dialBackProtocol))
  return starting.move()
}

async function dialBack(
  from: PeerConnection,
  { port, token }: z.infer<typeof askSchema>,
  signal: AbortSignal,
): Promise<z.infer<typeof answerSchema>> {
  if (from.relayPeerId !== undefined || from.isOutbound) return { error: 'the asker has not dialled this server' }
  const { host: address } = socketAddressOf(from.address)
  using limit = new TimeLimit(dialTimeoutMs, signal)
  try {
    const socket = await connectTcp(address, port, limit.signal)
    socket.end(Buffer.concat([Buffer.from(dialBackMagic), Buffer.from(token, 'base64url')]))
    socket.setTimeout(sayMs, () => socket.destroy())
    socket.resume()
    return { address }
  } catch (error) {
    return { error: describeError(error).slice(0, 1024) }
  }
}

/** Finds out from outside whether a port leads to this node. */
export class DialBacks implements Disposable {
  readonly #expected = new Map<string, () => void>()
  readonly #serving: Disposable

  constructor(host: Pick<Host, 'handleRaw'>) {
    this.#serving = host.handleRaw(dialBackMagic, (socket) => {
      socket.on('error', ignoreError)
      void (async () => {
        using limit = new TimeLimit(dialTimeoutMs)
        const token = await readBytes(socket, tokenBytes, limit.signal).catch(() => undefined)
        if (token !== undefined) this.#expected.get(token.toString('base64url'))?.()
        resetStream(socket, new Error('seen'))
      })()
    })
  }

  [Symbol.dispose](): void {
    this.#serving[Symbol.dispose]()
  }

  /** Where the server has reached us at that port; rejects when it has not, whatever it says. */
  async ask(server: PeerConnection, port: number, signal: AbortSignal): Promise<SocketAddress> {
    const token = randomBytes(tokenBytes).toString('base64url')
    using limit = new TimeLimit(askTimeoutMs, signal)
    const reached = new AbortController()
    this.#expected.set(token, () => reached.abort())
    try {
      const stream = await server.openStream(dialBackProtocol, limit.signal)
      const answer = answerSchema.parse(await askOnce(stream, { port, token }, frameLimitBytes, limit.signal))
      if ('error' in answer) throw new Error(answer.error)
      await Promise.race([aborted(reached.signal), aborted(limit.signal)])
      if (!reached.signal.aborted) throw new Error(`somebody else answers at ${answer.address}:${port}`)
      return { address: answer.address, port }
    } finally {
      this.#expected.delete(token)
    }
  }
}
