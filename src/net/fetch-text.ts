import { request as httpRequest, type IncomingMessage } from 'node:http'

/** A plain HTTP request to a device of the LAN. */
export interface TextRequest {
  readonly url: URL
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** The address to send from; the kernel's choice when absent. */
  readonly source?: string
  /** A longer answer is refused. */
  readonly maxBytes: number
  readonly signal: AbortSignal
}

/** What was answered, whatever the status. */
export interface TextAnswer {
  readonly status: number
  readonly text: string
}

/** Asks once, on a connection of its own, following no redirect; rejects with the connection's error or the signal's reason. */
export async function fetchText(request: TextRequest): Promise<TextAnswer> {
  const { url, method = 'GET', headers, body = '', source, maxBytes, signal } = request
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const localAddress = source === undefined ? {} : { localAddress: source }
  const length = { 'content-length': Buffer.byteLength(body) }
  const sent = httpRequest(url, { method, headers: { ...headers, ...length }, agent: false, signal, ...localAddress })
  sent.on('response', resolve)
  sent.on('error', reject)
  sent.end(body)
  try {
    const answer = await promise
    return { status: answer.statusCode ?? 0, text: await textOf(answer, maxBytes) }
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    sent.destroy()
  }
}

async function textOf(answer: IncomingMessage, maxBytes: number): Promise<string> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of answer as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > maxBytes) throw new Error(`the answer is longer than ${maxBytes} bytes`)
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}
