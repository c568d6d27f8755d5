import { createServer, type Server } from 'node:http'
import { answerHttp, type ControlHandler } from './control-socket.ts'
import { listenErrorOf } from './listen-error.ts'

/** Where to serve what. */
export interface HttpListenerOptions {
  readonly host: string
  /** 0 lets the kernel choose. */
  readonly port: number
  readonly handler: ControlHandler
}

/** A TCP port that answers small requests over HTTP; disposal cuts those under way. */
export interface HttpListener extends AsyncDisposable {
  readonly port: number
}

/** Whoever can reach the port may not hold more than this, nor for longer. */
const mostConnections = 32
const requestTimeoutMs = 10_000

/** Resolves when the port is bound; rejects with `AddressInUseError`, `ListenPermissionError` or another error. */
export async function startHttpListener({ host, port, handler }: HttpListenerOptions): Promise<HttpListener> {
  const server = createServer(
    { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, connectionsCheckingInterval: 5_000 },
    (incoming, outgoing) => void answerHttp(incoming, outgoing, handler),
  )
  server.maxConnections = mostConnections
  await listen(server, host, port)
  server.on('error', () => {})
  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new Error('Cannot listen: not an IP socket')
  return {
    port: bound.port,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => reject(listenErrorOf(error, 'tcp', host, port))
    server.once('error', onError)
    server.listen({ host, port }, () => {
      server.off('error', onError)
      resolve()
    })
  })
}
