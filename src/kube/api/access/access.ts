import type { SecureContextOptions } from 'node:tls'
import { describeError, type Logger } from '../../../observability/index.ts'

/** Where an API is and how to speak to it, at this moment. */
export interface ApiConnection {
  readonly url: URL
  /** Sent with each request; carries the token. */
  readonly headers: Readonly<Record<string, string>>
  readonly tls: ApiTls
}

/** The TLS side of a connection; empty for http. */
export type ApiTls = Pick<SecureContextOptions, 'ca' | 'cert' | 'key'> & {
  readonly rejectUnauthorized?: boolean
  readonly servername?: string
}

/** Gives the connection to use for the next request, so that rotated tokens and certificates take effect. */
export interface ApiAccess {
  connection(): Promise<ApiConnection>
  /** Looks for newer credentials because the server refused these. */
  refresh(): Promise<ApiConnection>
}

/** Reads what a connection is made of; `isRefused` says that the last one's credentials were refused. */
export type LoadConnection = (isRefused: boolean) => Promise<ApiConnection>

const keptMs = 60_000
/** A server that refuses everything must not make us read, or run a plugin, for each request. */
const refreshedMs = 1_000

/**
 * Reads the connection once a minute. When that fails later on, the last one stays in use: a token file is absent for
 * a moment while it is replaced.
 */
export function createCachedAccess(
  load: LoadConnection,
  logger: Logger,
  now: () => number = () => performance.now(),
): ApiAccess {
  let known: ApiConnection | undefined
  let readAt = Number.NEGATIVE_INFINITY
  let reading: Promise<ApiConnection> | undefined

  async function read(isRefused: boolean): Promise<ApiConnection> {
    try {
      known = await load(isRefused)
    } catch (error) {
      if (known === undefined) throw error
      logger.warn({ reason: describeError(error) }, 'API credentials cannot be read; the last ones stay in use')
    }
    readAt = now()
    return known
  }

  function current(isRefused: boolean): Promise<ApiConnection> {
    if (known !== undefined && now() - readAt < (isRefused ? refreshedMs : keptMs)) return Promise.resolve(known)
    reading ??= read(isRefused).finally(() => {
      reading = undefined
    })
    return reading
  }

  return { connection: () => current(false), refresh: () => current(true) }
}
