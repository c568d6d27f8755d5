import type { ForwardedResponse } from './forwarded-response.ts'

/** A response from the cache and how long it has been there. */
export interface CachedResponse {
  readonly response: ForwardedResponse
  readonly ageSeconds: number
}

/** Bounds of a cache. */
export interface ResponseCacheOptions {
  readonly maxEntries: number
  readonly maxSeconds: number
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
}

/** Responses of other servers for as long as their TTLs allow; the oldest leave when it is full. */
export class ResponseCache {
  readonly #options: ResponseCacheOptions
  readonly #entries = new Map<string, { readonly response: ForwardedResponse; readonly since: number }>()

  constructor(options: ResponseCacheOptions) {
    this.#options = options
  }

  get(key: string): CachedResponse | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    const ageSeconds = Math.floor((this.#options.now() - entry.since) / 1000)
    if (ageSeconds < Math.min(entry.response.ttlSeconds, this.#options.maxSeconds)) {
      return { response: entry.response, ageSeconds }
    }
    this.#entries.delete(key)
    return undefined
  }

  set(key: string, response: ForwardedResponse): void {
    this.#entries.delete(key)
    if (response.ttlSeconds === 0) return
    this.#entries.set(key, { response, since: this.#options.now() })
    const [oldest] = this.#entries.keys()
    if (this.#entries.size > this.#options.maxEntries && oldest !== undefined) this.#entries.delete(oldest)
  }

  clear(): void {
    this.#entries.clear()
  }
}
