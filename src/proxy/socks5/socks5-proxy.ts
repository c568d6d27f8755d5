import type { Catalog } from '../../catalog/index.ts'
import {
  type ByteStream,
  DialError,
  type Dialer,
  type DialFailure,
  resetStream,
  splice,
  startTcpListener,
} from '../../net/index.ts'
import { type Counter, createLoggedTasks, describeError, type Logger, type Metrics } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { ProxyConfig } from '../config.ts'
import { Socks5ListenError } from './errors.ts'
import {
  noAuthentication,
  parseGreeting,
  parseRequest,
  renderMethod,
  renderReply,
  reply,
  SocksError,
} from './messages.ts'
import { nodeTargetOf } from './node-target.ts'
import { readMessage } from './read-message.ts'

/** What the entry needs. */
export interface Socks5Options {
  readonly config: Pick<ProxyConfig, 'socks5Proxy' | 'dialTimeoutMs'>
  /** The bridge address; must be on this node already. */
  readonly address: string
  /** Instead of the configured port; 0 lets the kernel choose. */
  readonly port?: number
  readonly nodeName: string
  readonly catalog: Catalog
  /** Dials this node itself, and others through the tunnel. */
  readonly dialer: Dialer
  /** Where ports of this node itself are dialled. */
  readonly nodeAddress: () => string
  /** Ports of this node itself that may be reached; others have lists of their own. */
  readonly allowNodePorts: readonly number[]
  /** How long a client may take to say what it wants; 10 s unless said. */
  readonly headTimeoutMs?: number
  readonly maxConnections?: number
  readonly logger: Logger
  readonly metrics: Metrics
}

/** A running SOCKS5 entry. */
export interface Socks5Proxy extends AsyncDisposable {
  readonly port: number
  /** Takes no new connections and waits until the open ones end or the signal aborts. */
  drain(signal: AbortSignal): Promise<void>
}

const defaultHeadTimeoutMs = 10_000
const defaultMaxConnections = 1024
/** How long a client that was refused may take to read why. */
const farewellMs = 2000

const replyOfFailure: Readonly<Record<DialFailure, number>> = {
  refused: reply.refused,
  unreachable: reply.hostUnreachable,
  forbidden: reply.notAllowed,
  'unknown-target': reply.generalFailure,
  'no-path': reply.networkUnreachable,
  overloaded: reply.generalFailure,
}

/** Listens on the bridge address; rejects with a `Socks5ListenError`. */
export async function startSocks5Proxy(options: Socks5Options): Promise<Socks5Proxy> {
  const { address, config, logger, metrics, maxConnections = defaultMaxConnections } = options
  const port = options.port ?? config.socks5Proxy.listenPort
  await using starting = new AsyncDisposableStack()
  const tasks = createLoggedTasks(logger)
  starting.use(tasks)
  const results = metrics.counter('socks5_connections_total', 'SOCKS5 connections by what became of them', ['result'])
  const listener = await startTcpListener({
    host: address,
    port,
    pauseOnConnect: true,
    onConnection(client) {
      if (tasks.size >= maxConnections) {
        results.add(1, { result: 'too-many' })
        resetStream(client, new Error('too many connections'))
        return
      }
      tasks.run('socks5 connection', (stopping) => serve(client, { ...options, results }, stopping))
    },
    onAcceptError: (error) => logger.warn({ reason: describeError(error) }, 'SOCKS5 cannot accept a connection'),
  }).catch((error: unknown) => {
    throw new Socks5ListenError(address, port, error)
  })
  starting.use(listener)
  logger.info({ address: `${address}:${listener.port}` }, 'serving SOCKS5')
  const running = starting.move()
  return {
    port: listener.port,
    drain(signal) {
      listener.stopAccepting()
      return tasks.idle(signal)
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

interface Serving extends Socks5Options {
  readonly results: Counter
}

/** One client from its first byte to its last; owns it. */
async function serve(client: ByteStream, options: Serving, stopping: AbortSignal): Promise<void> {
  try {
    const upstream = await open(client, options, stopping)
    if (upstream === undefined) return
    options.results.add(1, { result: 'ok' })
    client.write(renderReply(reply.succeeded))
    await splice(client, upstream, stopping)
  } catch (error) {
    options.results.add(1, { result: 'failed' })
    options.logger.debug({ reason: describeError(error) }, 'a SOCKS5 connection failed')
    const code = replyTo(error)
    if (code === undefined || stopping.aborted) resetStream(client, new Error('not served', { cause: error }))
    else await sayFarewell(client, renderReply(code), stopping)
  }
}

/** The dialled node; undefined when client and proxy could not agree and the client knows. */
async function open(client: ByteStream, options: Serving, stopping: AbortSignal): Promise<ByteStream | undefined> {
  const { headTimeoutMs = defaultHeadTimeoutMs } = options
  using head = new TimeLimit(headTimeoutMs, stopping)
  const methods = await readMessage(client, parseGreeting, head.signal)
  if (!methods.includes(noAuthentication)) {
    options.results.add(1, { result: 'no-method' })
    await sayFarewell(client, renderMethod(undefined), stopping)
    return undefined
  }
  client.write(renderMethod(noAuthentication))
  const request = await readMessage(client, parseRequest, head.signal)
  const { nodeName, address } = nodeTargetOf(request, options.catalog.current)
  return await dial({ nodeName, address, port: request.port }, client, options, stopping)
}

interface Wanted {
  readonly nodeName: string
  readonly address: string
  readonly port: number
}

async function dial(wanted: Wanted, client: ByteStream, options: Serving, stopping: AbortSignal): Promise<ByteStream> {
  const isOwn = wanted.nodeName === options.nodeName
  if (isOwn && !options.allowNodePorts.includes(wanted.port)) {
    const text = `port ${wanted.port} of this node is not in modules.edgeTunnel.allowNodePorts`
    throw new SocksError(text, reply.notAllowed)
  }
  const gone = new AbortController()
  const onGone = () => gone.abort(new Error('the client went away'))
  client.once('close', onGone)
  if (client.destroyed) onGone()
  using limit = new TimeLimit(options.config.dialTimeoutMs, stopping, gone.signal)
  const { nodeName, port } = wanted
  try {
    const address = isOwn ? options.nodeAddress() : wanted.address
    return await options.dialer.dial({ protocol: 'tcp', nodeName, kind: 'node', address, port }, limit.signal)
  } catch (error) {
    if (limit.isOver) throw new DialError('unreachable', `no answer from ${nodeName}`, { cause: error })
    throw error
  } finally {
    client.off('close', onGone)
  }
}

/** The reply to a failure; undefined for a client that would not understand one. */
function replyTo(error: unknown): number | undefined {
  if (error instanceof SocksError) return error.reply
  return error instanceof DialError ? replyOfFailure[error.failure] : undefined
}

/** Lets the client read the last word before the connection goes. */
async function sayFarewell(client: ByteStream, word: Buffer, stopping: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  using limit = new TimeLimit(farewellMs, stopping)
  limit.signal.addEventListener('abort', () => resolve(), { once: true })
  client.once('close', () => resolve())
  client.end(word)
  client.resume()
  if (!client.destroyed) await promise
  client.destroy()
}
