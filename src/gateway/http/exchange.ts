import type { ByteStream } from '../../net/index.ts'
import type { RequestHead } from './head.ts'
import type { HeaderFields } from './header-fields.ts'

/** Who asks, and on which connection. */
export interface ClientInfo {
  readonly address: string
  readonly port: number
  /** Where the connection arrived. */
  readonly localAddress: string
  readonly localPort: number
  /** The name in the TLS handshake; undefined without TLS or name. */
  readonly serverName?: string | undefined
  readonly isTls: boolean
}

/** Takes what the client sends after the head. */
export interface ExchangeListener {
  /** Part of the request's body. After `pause` there may still be a few. */
  onData(chunk: Buffer): void
  /** The request is complete. */
  onEnd(trailers: HeaderFields | undefined): void
  /** The client is gone before the answer was complete; nothing more follows. */
  onGone(): void
  /** The client takes more of the answer after `write` returned false. */
  onDrain(): void
}

/** One request and the way to answer it, whatever version of HTTP carries it. */
export interface Exchange {
  readonly request: RequestHead
  readonly client: ClientInfo
  /** True when a body follows the head. */
  readonly hasBody: boolean
  /** Begins to deliver the body; called once, at once or later. */
  listen(listener: ExchangeListener): void
  pause(): void
  resume(): void
  /** Says before `respond` that nobody will take what is left of the body. */
  discardBody(): void
  /** Sends an interim answer such as 103. */
  informational(status: number, headers: HeaderFields): void
  /** Sends the head of the answer. `length` is undefined when it is not known before the end. */
  respond(status: number, reason: string, headers: HeaderFields, length: number | undefined): void
  /** Sends a part of the body, which may be overwritten afterwards; false asks to wait for `onDrain`. */
  write(chunk: Buffer): boolean
  /** Ends the answer. */
  end(trailers?: HeaderFields): void
  /** Breaks the answer off so that the client sees that it is not complete. */
  abort(): void
  /** Sends the head of a switch of protocols and gives the connection away; only after a request with `isUpgrade`. */
  upgrade(reason: string, headers: HeaderFields): ByteStream
}

/** Is given every request. */
export type ExchangeHandler = (exchange: Exchange) => void
