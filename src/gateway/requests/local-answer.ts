import type { Exchange } from '../http/exchange.ts'
import { isGrpcRequest } from '../http/head.ts'
import { HeaderFields } from '../http/header-fields.ts'
import { bodyOf, reasonOf } from '../http/refusal.ts'

/** An answer of the gateway itself. */
export interface LocalAnswer {
  readonly status: number
  readonly headers?: HeaderFields
  /** Sent as it is; without it there is a line of text that says what is wrong. */
  readonly body?: Buffer
  /** For that line, and for the log. */
  readonly reason: string
}

/** Answers without a backend. A gRPC client is told in its own way. */
export function answerLocally(exchange: Exchange, { status, headers, body, reason }: LocalAnswer): void {
  const fields = new HeaderFields()
  if (headers !== undefined) fields.addAll(headers)
  if (status >= 400 && exchange.request.version === '2' && isGrpcRequest(exchange.request)) {
    answerGrpc(exchange, fields, grpcStatusOf(status), reason)
    return
  }
  const bytes = body ?? (status >= 400 ? Buffer.from(bodyOf(status, reason)) : Buffer.alloc(0))
  if (bytes.length > 0 && !fields.has('content-type'))
    fields.add('content-type', 'content-type', 'text/plain; charset=utf-8')
  fields.add('date', 'date', new Date().toUTCString())
  exchange.discardBody()
  exchange.respond(status, reasonOf(status), fields, bytes.length)
  if (bytes.length > 0) exchange.write(bytes)
  exchange.end()
}

/** An answer that ends with its head: gRPC's form for calls that never began. */
export function answerGrpc(exchange: Exchange, fields: HeaderFields, grpcStatus: number, message: string): void {
  fields.set('content-type', 'content-type', 'application/grpc')
  fields.set('grpc-status', 'grpc-status', String(grpcStatus))
  fields.set('grpc-message', 'grpc-message', encodeURIComponent(message).replaceAll('%20', ' '))
  exchange.discardBody()
  exchange.respond(200, 'OK', fields, 0)
  exchange.end()
}

/** As gRPC maps statuses of proxies that do not speak it. */
function grpcStatusOf(status: number): number {
  if (status === 400) return 13
  if (status === 401) return 16
  if (status === 403) return 7
  if (status === 404) return 12
  if (status === 504) return 4
  return [429, 502, 503].includes(status) ? 14 : 2
}
