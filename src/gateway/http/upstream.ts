import type { ByteStream } from '../../net/index.ts'
import type { BodyFraming, ResponseHead } from './head.ts'
import type { HeaderFields } from './header-fields.ts'

/** A request as it is sent to a backend. */
export interface OutgoingRequest {
  readonly method: string
  readonly authority: string
  readonly target: string
  /** Without Host and without what is about one connection. */
  readonly headers: HeaderFields
  readonly body: BodyFraming
  readonly isUpgrade: boolean
}

/** Takes what a backend answers. `onEnd`, `onUpgrade` or `onError` comes last, and only one of them. */
export interface UpstreamListener {
  onInformational(status: number, headers: HeaderFields): void
  onHead(head: ResponseHead): void
  /** Part of the body, lent for this call. After `pause` there may still be a few. */
  onData(chunk: Buffer): void
  onEnd(trailers: HeaderFields | undefined): void
  /** The backend switched protocols: the connection is ours. */
  onUpgrade(head: ResponseHead, stream: ByteStream): void
  onError(error: UpstreamError): void
  /** The backend takes more of the request after `write` returned false. */
  onDrain(): void
}

/** A request under way. */
export interface UpstreamRequest {
  /** Sends a part of the body; false asks to wait for `onDrain`. */
  write(chunk: Buffer): boolean
  end(trailers?: HeaderFields): void
  pause(): void
  resume(): void
  /** Gives the request up; nothing more is told. */
  cancel(): void
}

/** Why an attempt failed. */
export type UpstreamFailure =
  /** The connection was lost before the first byte of the answer. */
  | 'reset-before-answer'
  /** The backend said that it has not begun with the request. */
  | 'refused'
  /** The connection was lost within the answer. */
  | 'reset'
  /** The answer is no HTTP. */
  | 'bad-answer'

/** An attempt that failed. */
export class UpstreamError extends Error {
  override readonly name = 'UpstreamError'
  readonly failure: UpstreamFailure
  /** The connection had served another request before, so that its end may have crossed with this one. */
  readonly wasReused: boolean

  constructor(
    failure: UpstreamFailure,
    message: string,
    options: ErrorOptions & { readonly wasReused?: boolean } = {},
  ) {
    super(message, options)
    this.failure = failure
    this.wasReused = options.wasReused ?? false
  }
}

/** A connection to a backend that can take a request now. */
export interface UpstreamConnection {
  send(request: OutgoingRequest, listener: UpstreamListener): UpstreamRequest
  /** Gives it back without having sent anything. */
  release(): void
}
