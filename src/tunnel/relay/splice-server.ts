import type * as z from 'zod'
import { keepAliveDelayMs, splice, type TcpSocket } from '../../net/index.ts'
import { createLoggedTasks, describeError, type Logger, type Metrics } from '../../observability/index.ts'
import { sleep, TimeLimit } from '../../runtime/index.ts'
import { answerOnce, askOnce, readBytes } from '../frames.ts'
import type { Host } from '../host/host.ts'
import { isDirect, isUnsupported, type PeerConnection } from '../host/peer-connection.ts'
import type { SpliceBook } from './splice-book.ts'
import {
  askSchema,
  offerAnswerSchema,
  type offerSchema,
  spliceAskProtocol,
  spliceFrameLimitBytes,
  spliceMagic,
  spliceOfferProtocol,
  tokenBytes,
} from './splice-messages.ts'

/** What relaying by splices needs. */
export interface SpliceServerOptions {
  readonly host: Host
  readonly logger: Logger
  readonly metrics: Metrics
  /** Counts what is joined, here and elsewhere. */
  readonly splices: SpliceBook
  /** Told when other nodes than before are not relayed, by peer ID with the reason. */
  onCapped(capped: ReadonlyMap<string, string>): void
  nameOf(peerId: string): string
  /** Peers that may be joined to others; default: all. */
  readonly mayRelay?: ((peerId: string) => boolean) | undefined
}

const answerTimeoutMs = 5000
const tokenTimeoutMs = 5000
const maxAsksPerConnection = 64
const capCheckMs = 1000
const maxPairsInMetrics = 32

/**
 * Relays for those who are connected to this node: joins two TCP connections to its public port byte for byte, after both
 * ends have shown a token that it gave to the pair. What it sees is TLS between the two; what waits is in the sockets'
 * own bounded buffers.
 */
export async function serveSplices(options: SpliceServerOptions): Promise<AsyncDisposable> {
  const { host, logger, metrics, splices: book } = options
  await using starting = new AsyncDisposableStack()
  const tasks = starting.use(createLoggedTasks(logger))
  await host.handle({
    protocol: spliceAskProtocol,
    maxStreams: maxAsksPerConnection,
    onStream(stream, from) {
      tasks.run('splice request', async (stopping) => {
        using limit = new TimeLimit(answerTimeoutMs, stopping)
        const answer = (ask: unknown) => answerTo(options, book, from, askSchema.parse(ask).peer, limit.signal)
        await answerOnce(stream, answer, spliceFrameLimitBytes, limit.signal).catch((error: unknown) =>
          logger.debug({ peer: from.peerId, error }, 'splice request failed'),
        )
      })
    },
  })
  starting.defer(() => host.unhandle(spliceAskProtocol))
  tasks.signal.addEventListener('abort', () => book.abandon(), { once: true })
  tasks.run('byte caps', (signal) => enforceCaps(options, signal))
  starting.use(
    host.handleRaw(spliceMagic, (socket) => {
      if (tasks.signal.aborted) socket.destroy()
      else tasks.run('splice', (stopping) => join(options, book, socket, stopping))
    }),
  )
  metrics.observe('relay_pair_bytes', 'Bytes relayed between two nodes, of the busiest pairs', ['nodes'], () =>
    book.pairs.slice(0, maxPairsInMetrics).map(({ peers, bytes }) => {
      return { labels: { nodes: peers.map(options.nameOf).join(' ') }, value: bytes }
    }),
  )
  metrics.observe('relay_splices', 'Connections of two nodes that this relay joins', [], () => [{ value: book.count }])
  metrics.observe('relay_spliced_bytes', 'Bytes relayed between nodes since the start', [], () => [
    { value: book.bytes },
  ])
  return starting.move()
}

async function enforceCaps({ splices, onCapped, logger }: SpliceServerOptions, signal: AbortSignal): Promise<never> {
  let known = ''
  for (;;) {
    await sleep(capCheckMs, signal)
    const capped = splices.enforceCaps()
    const now = [...capped.keys()].join(' ')
    if (now === known) continue
    for (const [peer, reason] of capped)
      if (!known.includes(peer)) logger.warn({ peer, reason }, 'node not relayed any more')
    known = now
    onCapped(capped)
  }
}

async function answerTo(
  { host, mayRelay = () => true }: SpliceServerOptions,
  book: SpliceBook,
  from: PeerConnection,
  peer: string,
  signal: AbortSignal,
): Promise<object> {
  const connection = host.connectionsTo(peer).find(isDirect)
  if (connection === undefined) return { error: 'the peer is not connected to this relay' }
  const stranger = [from.peerId, peer].find((peerId) => !mayRelay(peerId))
  if (stranger !== undefined) return { error: `this relay knows no node with the identity ${stranger}` }
  const tokens = book.issue(from.peerId, peer)
  if (typeof tokens === 'string') return { error: tokens }
  try {
    const offer: z.infer<typeof offerSchema> = { from: from.peerId, token: tokens.peer }
    const stream = await connection.openStream(spliceOfferProtocol, signal)
    const answer = offerAnswerSchema.parse(await askOnce(stream, offer, spliceFrameLimitBytes, signal))
    if (!('error' in answer)) return { token: tokens.asker }
    book.withdraw(tokens)
    return answer
  } catch (error) {
    book.withdraw(tokens)
    const code = isUnsupported(error) ? 'unsupported' : undefined
    return { error: `the peer cannot be asked: ${describeError(error)}`, code }
  }
}

async function join(
  { logger }: SpliceServerOptions,
  book: SpliceBook,
  socket: TcpSocket,
  stopping: AbortSignal,
): Promise<void> {
  socket.on('error', () => {})
  using limit = new TimeLimit(tokenTimeoutMs, stopping)
  const token = await readBytes(socket, tokenBytes, limit.signal).catch(() => undefined)
  if (token === undefined) {
    socket.destroy()
    return
  }
  // Both ends must be able to say their last word.
  socket.allowHalfOpen = true
  socket.setNoDelay(true)
  socket.setKeepAlive(true, keepAliveDelayMs)
  socket.pause()
  const joined = book.redeem(token.toString('base64url'), socket)
  if (joined === undefined) return
  const { pair, sockets } = joined
  logger.debug({ peer: pair.join(' and ') }, 'connections joined')
  book.close(pair, sockets, await splice(...sockets, stopping))
}
