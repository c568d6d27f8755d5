import { type IncomingMessage, ServerResponse } from 'node:http'
import { type ByteStream, splice } from '../../net/index.ts'
import type { HttpForward } from './decision.ts'
import { copyResponse, forwardedHeaders, openRequest, UpstreamFailedError } from './exchange.ts'
import { endToEndHeaders, type FlatHeaders, fieldsOf } from './headers.ts'
import type { HttpUpstream } from './upstream-pool.ts'

const never = new AbortController().signal

/**
 * Sends a request to change the protocol on to the backend. When the backend agrees, both connections are spliced until
 * they are closed, without any time limit; when it answers otherwise, the client gets that answer and is closed.
 * Rejects when the backend failed before it answered.
 */
export function exchangeUpgrade(
  incoming: IncomingMessage,
  head: Buffer,
  upstream: HttpUpstream,
  forward: HttpForward,
): Promise<void> {
  const client = incoming.socket
  const protocol = String(incoming.headers.upgrade)
  const headers = [...forwardedHeaders(incoming, forward), 'Connection', 'Upgrade', 'Upgrade', protocol]
  return new Promise((resolve, reject) => {
    const outgoing = openRequest(incoming, upstream, forward, headers)
    const onClientGone = () => {
      outgoing.destroy()
      resolve()
    }
    client.once('close', onClientGone)
    outgoing.on('error', (error) => reject(new UpstreamFailedError(upstream.isReused, { cause: error })))
    outgoing.once('upgrade', (answer, stream, rest) => {
      client.off('close', onClientGone)
      client.write(renderSwitch(answer, forward))
      void join(client, head, stream, rest).then(resolve)
    })
    outgoing.once('response', (answer) => {
      const response = lastResponse(incoming)
      try {
        copyResponse(answer, response, forward)
      } catch (error) {
        response.detachSocket(client)
        outgoing.destroy()
        reject(new UpstreamFailedError(false, { cause: error }))
      }
    })
    outgoing.end()
  })
}

/** Splices the two connections, with what each side had sent before. */
async function join(client: ByteStream, head: Buffer, stream: ByteStream, rest: Buffer): Promise<void> {
  if (head.length > 0) client.unshift(head)
  if (rest.length > 0) stream.unshift(rest)
  await splice(client, stream, never)
}

/** A response on a connection that the server has let go of, and that ends with it. */
export function lastResponse(incoming: IncomingMessage): ServerResponse {
  const { socket } = incoming
  const response = new ServerResponse(incoming)
  response.shouldKeepAlive = false
  response.assignSocket(socket)
  response.once('finish', () => endSoon(socket))
  socket.resume()
  return response
}

/** Ends a connection that nobody reads any more, and closes it when the client does not do so itself. */
export function endSoon(socket: ByteStream): void {
  socket.resume()
  socket.end()
  const timer = setTimeout(() => socket.destroy(), lingerMs)
  socket.once('close', () => clearTimeout(timer))
}

const lingerMs = 5_000

function renderSwitch(answer: IncomingMessage, forward: HttpForward): string {
  const kept = endToEndHeaders(answer.rawHeaders)
  const headers: FlatHeaders = forward.responseHeaders?.(101, kept) ?? kept
  const switching = ['Connection', 'Upgrade', 'Upgrade', String(answer.headers.upgrade)]
  const lines = [...fieldsOf([...headers, ...switching])].map(([name, value]) => `${name}: ${value}\r\n`)
  return `HTTP/1.1 101 ${answer.statusMessage ?? 'Switching Protocols'}\r\n${lines.join('')}\r\n`
}
