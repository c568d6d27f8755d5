import type { Duplex } from 'node:stream'
import type { Protocol } from '../model/index.ts'

/**
 * A two-way byte stream with half-close: `end()` closes only our direction and the other one goes on;
 * `destroy(error)` is a reset, which the far side sees as one. Always made with `allowHalfOpen: true`.
 */
export type ByteStream = Duplex

/** What to dial. */
export interface DialTarget {
  readonly protocol: Protocol
  /** The node the address is meant on; absent means this node dials it itself. */
  readonly nodeName?: string | undefined
  /**
   * `node` asks for a port of the node itself, at the address of its own choice, and `reach` for the part of its agent
   * that takes keys; absent means an endpoint there.
   */
  readonly kind?: 'node' | 'reach' | undefined
  readonly address: string
  readonly port: number
}

/** Opens byte streams. */
export interface Dialer {
  /** Resolves once the far end accepted; rejects with a `DialError`, or with the signal's reason. */
  dial(target: DialTarget, signal: AbortSignal): Promise<ByteStream>
}

/**
 * Datagrams to one target and back, as one client's session. Messages are dropped, never queued without bound, when the
 * way is slow; their borders are kept. Disposal ends it on both sides.
 */
export interface DatagramChannel extends Disposable {
  send(message: Uint8Array): void
  /** Replaces who is told; messages that arrive before anybody is are dropped. */
  onMessage(listener: (message: Buffer) => void): void
  /** Resolves when the channel is over, with the reason when it was lost. */
  readonly closed: Promise<Error | undefined>
}

/** Opens datagram channels. */
export interface DatagramDialer {
  /** Resolves once the far end accepted; rejects with a `DialError`, or with the signal's reason. */
  dialDatagrams(target: DialTarget, signal: AbortSignal): Promise<DatagramChannel>
}

/** Why a dial failed, in a form that crosses the tunnel. */
export type DialFailure =
  /** The target answered with a reset, or nothing listens. */
  | 'refused'
  /** Nothing answered in time, or there is no route. */
  | 'unreachable'
  /** The far end does not serve this target. */
  | 'forbidden'
  /** The far end does not know this target yet; a retry may work. */
  | 'unknown-target'
  /** There is no path to the peer. */
  | 'no-path'
  /** The far end is at a limit. */
  | 'overloaded'

/**
 * What carried a stream is gone, so that the stream is reset although neither of its ends wanted that. The text says
 * what was lost and why.
 */
export class PathLostError extends Error {
  override readonly name = 'PathLostError'
  readonly code = 'ECONNRESET'
}

/** A dial that failed; the message says what and where: `connect ECONNREFUSED 10.244.3.12:80 on edge-b1`. */
export class DialError extends Error {
  override readonly name = 'DialError'
  readonly code = 'EDGEMESH_DIAL'
  readonly failure: DialFailure

  constructor(failure: DialFailure, message: string, options?: ErrorOptions) {
    super(message, options)
    this.failure = failure
  }
}
