import type { IncomingMessage } from 'node:http'
import type { FlatHeaders } from './headers.ts'
import type { HttpUpstream } from './upstream-pool.ts'

/** Send the request on. */
export interface HttpForward {
  readonly kind: 'forward'
  /** A connection to the backend that the request goes to; asked a second time when a reused one was gone already. */
  dial(signal: AbortSignal): Promise<HttpUpstream>
  /** Called once when the exchange is over, however it ended. */
  readonly onEnd?: () => void
  /** Replaces the target of the request line. */
  readonly path?: string
  /** Changes the end-to-end fields of the request, which include `Host`. */
  readonly requestHeaders?: (headers: FlatHeaders) => FlatHeaders
  /** Changes the end-to-end fields of the response. */
  readonly responseHeaders?: (status: number, headers: FlatHeaders) => FlatHeaders
  /** Until the response begins; 504 after that. Absent means no limit. */
  readonly timeoutMs?: number
}

/** Answer the request here. */
export interface HttpAnswer {
  readonly kind: 'answer'
  readonly status: number
  readonly headers?: FlatHeaders
  readonly body?: string
}

/** What becomes of one request. */
export type HttpDecision = HttpForward | HttpAnswer

/** Decides about each request by its head; its socket and body are not to be touched. */
export type DecideHttp = (request: IncomingMessage) => HttpDecision | Promise<HttpDecision>

/** An answer in one line of text. */
export function answer(status: number, text: string, headers: FlatHeaders = []): HttpAnswer {
  return {
    kind: 'answer',
    status,
    headers: ['Content-Type', 'text/plain; charset=utf-8', ...headers],
    body: `${text}\n`,
  }
}
