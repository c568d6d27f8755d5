import type { ConnectionPool } from '../backends/connection-pool.ts'
import type { BackendGroup } from '../backends/destinations.ts'
import type { HeaderFields } from '../http/header-fields.ts'
import type { OutgoingRequest, UpstreamListener, UpstreamRequest } from '../http/upstream.ts'
import type { RequestCopy } from './forward.ts'

/** What a copy may wait with while its connection is made; a longer one is given up. */
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
  #isOver = false

  constructor(group: BackendGroup, outgoing: OutgoingRequest, pool: ConnectionPool, dialTimeoutMs: number) {
    void this.#begin(group, outgoing, pool, dialTimeoutMs)
  }

  write(chunk: Buffer): boolean {
    if (this.#isOver) return true
    if (this.#upstream !== undefined) return this.#upstream.write(chunk)
    this.#waitingBytes += chunk.length
    if (this.#waitingBytes > mostWaiting) this.#isOver = true
    else this.#waiting.push(chunk)
    return true
  }

  end(trailers?: HeaderFields): void {
    this.#end = { trailers }
    this.#upstream?.end(trailers)
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
      const upstream = connection.send(outgoing, this)
      this.#upstream = upstream
      for (const chunk of this.#waiting.splice(0)) upstream.write(chunk)
      if (this.#end !== undefined) upstream.end(this.#end.trailers)
    } catch {
      // Nobody waits for a copy: the request itself tells how the destination fares.
      this.#isOver = true
    }
  }

  onInformational(): void {}
  onHead(): void {}
  onData(): void {}
  onDrain(): void {}

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
