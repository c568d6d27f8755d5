import type { ForwardedResponse } from './forwarded-response.ts'

/** A response from the cache. */
export interface CachedResponse {
  readonly response: ForwardedResponse
  readonly ageSeconds: number
  /** True when its time is over and it is good only for want of a better one (RFC 8767). */
  readonly isStale: boolean
  /** True when the last attempt to get a better one failed a moment ago. */
  readonly isHopeless: boolean
}

/** Bounds of a cache. */
export interface ResponseCacheOptions {
  readonly maxEntries: number
  readonly maxBytes: number
  readonly maxSeconds: number
  /** How long a response is kept after its time. */
  readonly maxStaleSeconds: number
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
}

interface Entry {
  readonly response: ForwardedResponse
  readonly since: number
  /** When its time is over, by the same clock. */
  freshUntil: number
  hopelessUntil: number
}

/** RFC 8767 §5: do not ask for the same thing more often than this while nobody answers. */
const retryAfterMs = 5000

/** Responses of other servers for as long as their TTLs allow, and after; the oldest leave when it is full. */
export class ResponseCache {
  readonly #options: ResponseCacheOptions
  readonly #entries = new Map<string, Entry>()
  #bytes = 0

  constructor(options: ResponseCacheOptions) {
    this.#options = options
  }

  get(key: string): CachedResponse | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    const { now, maxStaleSeconds } = this.#options
    const time = now()
    if (time >= entry.freshUntil + maxStaleSeconds * 1000) {
      this.#remove(key, entry)
      return undefined
    }
    return {
      response: entry.response,
      ageSeconds: Math.floor((time - entry.since) / 1000),
      isStale: time >= entry.freshUntil,
      isHopeless: time < entry.hopelessUntil,
    }
  }

  /** Remembers a response; one that may not be cached takes nothing away, as the old one may serve when stale. */
  set(key: string, response: ForwardedResponse): void {
    if (response.ttlSeconds === 0) return
    const { now, maxSeconds, maxEntries, maxBytes } = this.#options
    const seconds = Math.min(response.ttlSeconds, maxSeconds)
    if (seconds === 0) return
    this.#remove(key, this.#entries.get(key))
    this.#entries.set(key, { response, since: now(), freshUntil: now() + seconds * 1000, hopelessUntil: 0 })
    this.#bytes += response.message.length
    while (this.#entries.size > maxEntries || this.#bytes > maxBytes) {
      const [oldest] = this.#entries
      if (oldest === undefined) return
      this.#remove(...oldest)
    }
  }

  /** Nobody could say anything newer. */
  failed(key: string): void {
    const entry = this.#entries.get(key)
    if (entry !== undefined) entry.hopelessUntil = this.#options.now() + retryAfterMs
  }

  /** Ends the time of all: others may say something else now, but nobody may be there to say it. */
  expire(): void {
    const time = this.#options.now()
    for (const entry of this.#entries.values()) entry.freshUntil = Math.min(entry.freshUntil, time)
  }

  #remove(key: string, entry: Entry | undefined): void {
    if (entry === undefined) return
    this.#entries.delete(key)
    this.#bytes -= entry.response.message.length
  }
}
