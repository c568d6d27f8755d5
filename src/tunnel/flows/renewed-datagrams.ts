import type { DatagramChannel } from '../../net/index.ts'
import { TimeLimit } from '../../runtime/index.ts'

/** What renewing needs. */
export interface RenewedDatagramsOptions {
  /** Opens another channel to the same target. */
  open(signal: AbortSignal): Promise<DatagramChannel>
  /** After this long without a datagram either way the far end no longer serves a channel. */
  readonly idleMs: number
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
}

/** What waits for the next channel at most, in datagrams; more than that is lost. */
const maxWaiting = 64
const openTimeoutMs = 5000

/** The answers of a slow target may still come on the channel before. */
const lateMs = 1000

/** A channel whose far end forgets it when it is idle: another one is opened for what is sent later. */
export function renewDatagrams(first: DatagramChannel, options: RenewedDatagramsOptions): DatagramChannel {
  return new RenewedDatagrams(first, options)
}

class RenewedDatagrams implements DatagramChannel {
  readonly #options: RenewedDatagramsOptions
  readonly #nowMs: () => number
  readonly #late = new Map<DatagramChannel, NodeJS.Timeout>()
  readonly #closed = Promise.withResolvers<Error | undefined>()
  readonly #over = new AbortController()
  #current: DatagramChannel
  #usedMs: number
  /** What waits for a channel that is being opened; undefined when none is. */
  #waiting: Buffer[] | undefined
  #listener: ((message: Buffer) => void) | undefined

  constructor(first: DatagramChannel, options: RenewedDatagramsOptions) {
    const { nowMs = () => performance.now() } = options
    this.#options = options
    this.#nowMs = nowMs
    this.#current = first
    this.#usedMs = nowMs()
    this.#follow(first)
  }

  get closed(): Promise<Error | undefined> {
    return this.#closed.promise
  }

  send(message: Uint8Array): void {
    if (this.#over.signal.aborted) return
    const isServed = this.#nowMs() - this.#usedMs < this.#options.idleMs
    if (this.#waiting === undefined && isServed) {
      this.#usedMs = this.#nowMs()
      this.#current.send(message)
      return
    }
    if (this.#waiting === undefined) void this.#renew()
    if ((this.#waiting?.length ?? 0) < maxWaiting) this.#waiting?.push(Buffer.from(message))
  }

  onMessage(listener: (message: Buffer) => void): void {
    this.#listener = listener
  }

  [Symbol.dispose](): void {
    this.#end(undefined)
  }

  async #renew(): Promise<void> {
    this.#waiting = []
    try {
      using limit = new TimeLimit(openTimeoutMs, this.#over.signal)
      const next = await this.#options.open(limit.signal)
      if (this.#over.signal.aborted) {
        next[Symbol.dispose]()
        return
      }
      this.#retire(this.#current)
      this.#current = next
      this.#usedMs = this.#nowMs()
      this.#follow(next)
      for (const message of this.#waiting) next.send(message)
      this.#waiting = undefined
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #follow(channel: DatagramChannel): void {
    channel.onMessage((message) => {
      if (channel === this.#current) this.#usedMs = this.#nowMs()
      this.#listener?.(message)
    })
    void channel.closed.then((reason) => {
      if (channel === this.#current && this.#waiting === undefined) this.#end(reason)
    })
  }

  #retire(channel: DatagramChannel): void {
    const end = () => {
      this.#late.delete(channel)
      channel[Symbol.dispose]()
    }
    this.#late.set(channel, setTimeout(end, lateMs))
  }

  #end(reason: Error | undefined): void {
    if (this.#over.signal.aborted) return
    this.#over.abort(new Error('closed'))
    for (const [channel, timer] of this.#late) {
      clearTimeout(timer)
      channel[Symbol.dispose]()
    }
    this.#current[Symbol.dispose]()
    this.#closed.resolve(reason)
  }
}
