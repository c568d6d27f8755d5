import type { ByteStream, DatagramChannel, DialError } from '../../net/index.ts'
import type { OpenRequest } from './open-message.ts'

/** A flow that a peer asks for, before it is answered. */
export interface IncomingFlow {
  readonly request: OpenRequest
  /** Aborts when the dialler goes away, so that nobody waits for a target that nobody wants. */
  readonly gone: AbortSignal
  /** Says yes; from here on the stream is the flow's. */
  accept(signal: AbortSignal): Promise<ByteStream>
  /** Says yes to a request for datagrams. */
  acceptDatagrams(signal: AbortSignal): Promise<DatagramChannel>
  /** Says why not. */
  refuse(error: DialError, signal: AbortSignal): Promise<void>
  /** Ends it without an answer. */
  abandon(error: Error): void
}
