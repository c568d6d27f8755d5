import type { ConnectionPool } from '../backends/connection-pool.ts'
import type { BackendGroup } from '../backends/destinations.ts'
import type { HeaderFields } from '../http/header-fields.ts'
import type { OutgoingRequest, UpstreamListener, UpstreamRequest } from '../http/upstream.ts'
import type { RequestCopy } from './forward.ts'

/** What a copy may wait with for its connection, or for a backend that takes it slowly; a longer one is given up. */
const mostWaiting = 262_144

/** Sends a copy of a request to a backend of the group. Its answer is read and dropped, its failures are nobody's. */
export function mirrorRequest(
  group: BackendGroup,
  outgoing: OutgoingRequest,
  pool: ConnectionPool,
  dialTimeoutMs: number,
): RequestCopy {
  const host = outgoing.authority.replace(/(:\d+)?$/, '-shadow$1')
  return new MirroredRequest(group, { ...outgoing, authority: host, isUpgrade: false }, pool, dialTimeoutMs)
}

class MirroredRequest implements RequestCopy, UpstreamListener {
  readonly #waiting: Buffer[] = []
  #waitingBytes = 0
  #upstream: UpstreamRequest | undefined
  #end: { readonly trailers: HeaderFields | undefined } | undefined
  #isFull = false
  #isOver = false

  constructor(group: BackendGroup, outgoing: OutgoingRequest, pool: ConnectionPool, dialTimeoutMs: number) {
    void this.#begin(group, outgoing, pool, dialTimeoutMs)
  }

  /** Never asks the client to wait: that would make the copy's destination somebody whom it waits for. */
  write(chunk: Buffer): boolean {
    if (this.#isOver) return true
    if (this.#upstream !== undefined && !this.#isFull) this.#isFull = !this.#upstream.write(chunk)
    else if (this.#waitingBytes + chunk.length > mostWaiting) this.#giveUp()
    else {
      this.#waiting.push(chunk)
      this.#waitingBytes += chunk.length
    }
    return true
  }

  end(trailers?: HeaderFields): void {
    this.#end = { trailers }
    this.#sendWaiting()
  }

  #sendWaiting(): void {
    const upstream = this.#upstream
    while (upstream !== undefined && !this.#isFull) {
      const chunk = this.#waiting.shift()
      if (chunk === undefined) {
        if (this.#end !== undefined) upstream.end(this.#end.trailers)
        return
      }
      this.#waitingBytes -= chunk.length
      this.#isFull = !upstream.write(chunk)
    }
  }

  #giveUp(): void {
    this.#isOver = true
    this.#waiting.length = 0
    this.#upstream?.cancel()
  }

  async #begin(
    group: BackendGroup,
    outgoing: OutgoingRequest,
    pool: ConnectionPool,
    dialTimeoutMs: number,
  ): Promise<void> {
    const step = group.balancer.attempts({}).next()
    if (step.done === true) return
    try {
      const connection =
        pool.take(step.value, group.protocol, 1_000) ??
        (await pool.dial(step.value, group.protocol, AbortSignal.timeout(dialTimeoutMs)))
      if (this.#isOver) {
        connection.release()
        return
      }
      this.#upstream = connection.send(outgoing, this)
      this.#sendWaiting()
    } catch {
      // Nobody waits for a copy: the request itself tells how the destination fares.
      this.#isOver = true
    }
  }

  onInformational(): void {}
  onHead(): void {}
  onData(): void {}

  onDrain(): void {
    this.#isFull = false
    this.#sendWaiting()
  }

  onEnd(): void {
    this.#isOver = true
  }

  onUpgrade(): void {
    this.#isOver = true
  }

  onError(): void {
    this.#isOver = true
    this.#upstream = undefined
  }
}
