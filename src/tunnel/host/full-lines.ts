import type { TcpEnds, TcpInspector } from '../../linux/index.ts'
import { ignoreError } from '../../net/index.ts'
import type { PeerConnection } from './peer-connection.ts'

/** A connection, as far as the bytes on their way go. */
export type LinedConnection = Pick<PeerConnection, 'peerId' | 'relayPeerId' | 'tcpEnds'>

/** With so much on its way an answer may wait long behind it. */
const fullBytes = 16 * 1024

/** After this long it excuses nothing any more. */
const forgetMs = 60_000

/**
 * Knows connections on which much waits to be sent, and is taken by the other machine bit by bit: nothing may be heard on
 * them for long, and they are not dead.
 */
export class FullLines implements Disposable {
  readonly #open: (() => Promise<TcpInspector>) | undefined
  readonly #nowMs: () => number
  readonly #acknowledged = new WeakMap<TcpEnds, number>()
  /** By peer, when something was taken last. */
  readonly #takenMs = new Map<string, number>()
  readonly #looking = new Set<string>()
  #inspector: Promise<TcpInspector> | undefined
  #isDisposed = false

  /** Without `open` it knows none. */
  constructor(open: (() => Promise<TcpInspector>) | undefined, nowMs: () => number) {
    this.#open = open
    this.#nowMs = nowMs
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true
    void this.#inspector?.then((inspector) => inspector[Symbol.dispose](), ignoreError)
  }

  /** When the machine at the other end, or the relay's, has last taken some of what waits; 0 if it has not. */
  takenMs({ peerId, relayPeerId }: LinedConnection): number {
    return this.#takenMs.get(relayPeerId ?? peerId) ?? 0
  }

  /** Looks in the background; to be said again and again while nothing is heard. */
  look({ peerId, tcpEnds }: LinedConnection): void {
    if (tcpEnds === undefined || this.#open === undefined || this.#isDisposed || this.#looking.has(peerId)) return
    this.#looking.add(peerId)
    void this.#look(peerId, tcpEnds, this.#open)
      .catch(ignoreError)
      .finally(() => this.#looking.delete(peerId))
  }

  async #look(peerId: string, ends: TcpEnds, open: () => Promise<TcpInspector>): Promise<void> {
    const inspector = await this.#inspectorBy(open)
    const progress = await inspector.progressOf(ends)
    this.#forgetPast()
    if (progress === undefined) return
    const before = this.#acknowledged.get(ends) ?? progress.acknowledgedBytes
    this.#acknowledged.set(ends, progress.acknowledgedBytes)
    const isTaken = progress.waitingBytes >= fullBytes && progress.acknowledgedBytes > before
    if (isTaken) this.#takenMs.set(peerId, this.#nowMs())
  }

  /** One for all looks; where it cannot be opened now, the next look tries again. */
  async #inspectorBy(open: () => Promise<TcpInspector>): Promise<TcpInspector> {
    this.#inspector ??= open()
    try {
      return await this.#inspector
    } catch (error) {
      this.#inspector = undefined
      throw error
    }
  }

  #forgetPast(): void {
    for (const [peerId, atMs] of this.#takenMs) if (this.#nowMs() - atMs > forgetMs) this.#takenMs.delete(peerId)
  }
}
