/** The API answered a request with an error status. */
export class ApiStatusError extends Error {
  override readonly name = 'ApiStatusError'
  readonly code = 'EDGEMESH_API_STATUS'
  readonly status: number
  /** How long the server asks to wait before the next request; 0 when it does not. */
  readonly retryAfterMs: number

  constructor(what: string, status: number, detail: { readonly text?: string; readonly retryAfterMs?: number } = {}) {
    super(`Cannot ${what}: ${status}${detail.text ? ` ${detail.text}` : ''}`)
    this.status = status
    this.retryAfterMs = detail.retryAfterMs ?? 0
  }

  /** True when the resource version or the page asked for is no longer known, and only a new list helps. */
  get isExpired(): boolean {
    return this.status === 410
  }

  /** True when this origin does not serve the resource, or not to us; the same request will not help for a while. */
  get isNotServed(): boolean {
    return this.status === 403 || this.status === 404 || this.status === 405
  }
}

/** The API took longer than a request may take. */
export class ApiTimeoutError extends Error {
  override readonly name = 'ApiTimeoutError'
  readonly code = 'EDGEMESH_API_TIMEOUT'
}

/** The API answered with something that cannot be read. */
export class ApiProtocolError extends Error {
  override readonly name = 'ApiProtocolError'
  readonly code = 'EDGEMESH_API_PROTOCOL'
}

/** The origin has an answer but knows nothing, as metaServer does for what it has never fetched from the cloud. */
export class OriginKnowsNothingError extends Error {
  override readonly name = 'OriginKnowsNothingError'
  readonly code = 'EDGEMESH_API_KNOWS_NOTHING'

  constructor(what: string) {
    super(`Cannot ${what}: the answer is an empty list without a resource version, so the last objects stay in force`)
  }
}

/** The API says that a position or a page of a list is no longer known. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiStatusError && error.isExpired
}

/** The API answers, and has no such resource. */
export function isNotServed(error: unknown): boolean {
  return error instanceof ApiStatusError && error.isNotServed
}
