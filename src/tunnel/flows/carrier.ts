import type { ByteStream } from '../../net/index.ts'
import type { OpenMessages } from './open-message.ts'

/** The protocol that carries flows over streams of a peer connection. */
export const flowProtocol = '/edgemesh/flow/1.0.0'

/**
 * Opens byte streams to one peer for flows to run on. Flows know nothing of what is below: a stream of a direct or
 * relayed libp2p connection now, any other link later.
 */
export interface Carrier {
  readonly peerId: string
  /** How it travels, for logs: `direct` or `relayed via NAME`. */
  readonly path: string
  open(signal: AbortSignal): Promise<ByteStream>
  /** How targets are asked for on its streams, when not by our own messages; known once a stream is open. */
  readonly messages?: OpenMessages | undefined
}

/** Finds the best carrier to a peer as things are now. */
export interface CarrierSource {
  /** Resolves with a carrier that works now; rejects with a `DialError` that says what is missing. */
  carrierTo(nodeName: string, signal: AbortSignal): Promise<Carrier>
  /** Tells the source that a carrier it gave does not work, so that the next one is another. */
  reportBroken(carrier: Carrier, error: unknown): void
}
