import { chmod, unlink } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import { makeFolder } from '../runtime/index.ts'
import { AlreadyRunningError } from './already-running.ts'

/** An answer of the control socket. */
export interface ControlResponse {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

/** What is asked of a control socket: GET looks, POST changes something. */
export interface ControlRequest {
  readonly method: 'GET' | 'POST'
  readonly url: string
}

/** Answers a request; `undefined` means there is no such page. */
export type ControlHandler = (
  request: ControlRequest,
) => ControlResponse | undefined | Promise<ControlResponse | undefined>

/** Nobody answers at a control socket, usually because the agent or server does not run. */
export class NotRunningError extends Error {
  override readonly name = 'NotRunningError'
  readonly code = 'EDGEMESH_NOT_RUNNING'

  constructor(path: string, options?: ErrorOptions) {
    super(`Cannot reach a running instance at ${path}`, options)
  }
}

/** `sun_path` holds 108 bytes with its terminating zero. */
const maxPathBytes = 107

/**
 * Serves HTTP on a Unix socket that only its owner may use (0600). A socket file that a killed process left behind is
 * replaced; throws `AlreadyRunningError` when somebody answers there. Disposal removes the file.
 */
export async function startControlServer(options: {
  readonly path: string
  readonly handler: ControlHandler
}): Promise<AsyncDisposable> {
  const { path, handler } = options
  refuseLongPath(path)
  await makeFolder(dirname(path), 0o755)
  const server = createServer((incoming, outgoing) => void answerHttp(incoming, outgoing, handler))
  await listenReplacingDead(server, path)
  server.on('error', () => {})
  await chmod(path, 0o600)
  return {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Asks a control socket; throws `NotRunningError` when nobody listens there. */
export async function requestControl(
  path: string,
  { method, url }: ControlRequest,
  signal?: AbortSignal,
): Promise<ControlResponse> {
  refuseLongPath(path)
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = request({
      socketPath: path,
      method,
      path: url,
      agent: false,
      ...(signal === undefined ? {} : { signal }),
    })
    outgoing.once('response', resolve)
    outgoing.once('error', (cause: NodeJS.ErrnoException) => {
      reject(cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED' ? new NotRunningError(path, { cause }) : cause)
    })
    outgoing.end()
  })
  const contentType = response.headers['content-type'] ?? ''
  return { status: response.statusCode ?? 0, contentType, body: await text(response) }
}

function refuseLongPath(path: string): void {
  if (Buffer.byteLength(path) <= maxPathBytes) return
  throw new Error(`Cannot use ${path} as a socket: Unix socket paths hold at most ${maxPathBytes} bytes`)
}

async function listenReplacingDead(server: Server, path: string): Promise<void> {
  try {
    await listen(server, path)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw new Error(`Cannot listen on ${path}`, { cause })
    if (await isAnswered(path)) throw new AlreadyRunningError(`the control socket ${path}`, { cause })
    await unlink(path)
    await listen(server, path)
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // Anything but a refusal (no permission, backlog full) means that somebody is there.
    socket.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT')
    })
  })
}

/** Answers a request over HTTP; also for listeners that are no control socket. */
export async function answerHttp(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  handler: ControlHandler,
): Promise<void> {
  const { status, contentType, body } = await responseTo(incoming, handler)
  outgoing.writeHead(status, { 'content-type': contentType, connection: 'close' })
  outgoing.end(body)
}

async function responseTo(incoming: IncomingMessage, handler: ControlHandler): Promise<ControlResponse> {
  const plain = (status: number, body: string) => ({ status, contentType: 'text/plain; charset=utf-8', body })
  const { method, url = '/' } = incoming
  if (method !== 'GET' && method !== 'POST') return plain(405, 'only GET and POST are served here\n')
  try {
    return (await handler({ method, url })) ?? plain(404, `no such page: ${incoming.url}\n`)
  } catch (error) {
    return plain(500, `${error instanceof Error ? error.message : String(error)}\n`)
  }
}
