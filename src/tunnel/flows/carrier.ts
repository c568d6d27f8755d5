import type { ByteStream, DatagramChannel } from '../../net/index.ts'
import type { OpenRequest } from './open-message.ts'

/** The protocol that carries flows over streams of a peer connection. */
export const flowProtocol = '/edgemesh/flow/1.0.0'

/**
 * Opens flows to one peer. Callers know nothing of what is below: streams of a direct or relayed libp2p connection, or
 * links of our own. Both methods reject with the `DialError` that the far end has answered; any other error means that
 * the carrier does not work.
 */
export interface Carrier {
  readonly peerId: string
  /** How it travels, for logs: `direct` or `relayed via NAME`. */
  readonly path: string
  open(request: OpenRequest, signal: AbortSignal): Promise<ByteStream>
  openDatagrams(request: OpenRequest, signal: AbortSignal): Promise<DatagramChannel>
}

/** Finds the best carrier to a peer as things are now. */
export interface CarrierSource {
  /** The carrier that a flow would get at once, which bounds by itself how long opening takes; undefined without one. */
  standingTo(nodeName: string): Carrier | undefined
  /** Resolves with a carrier that works now; rejects with a `DialError` that says what is missing. */
  carrierTo(nodeName: string, signal: AbortSignal): Promise<Carrier>
  /** Tells the source that a carrier it gave does not work, so that the next one is another. */
  reportBroken(carrier: Carrier, error: unknown): void
}
