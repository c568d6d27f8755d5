import type { ApiClient } from './api-client.ts'
import { ApiProtocolError, ApiStatusError } from './errors.ts'
import { LineDecoder } from './line-decoder.ts'
import type { ResourceAddress } from './resources.ts'

/** A watch of objects. */
export interface WatchRequest {
  readonly client: ApiClient
  readonly address: ResourceAddress
  /** Changes after this one are told; empty for those from now on. */
  readonly resourceVersion: string
  /** Whether to ask for the position now and then when nothing changes. */
  readonly bookmarks: boolean
  /** The server ends the watch after this time; one that does not is ended a little later. */
  readonly seconds: number
  /** Called when the server has accepted the watch. */
  readonly onAnswer: () => void
}

/** One change, or only a new position. */
export interface WatchEvent {
  readonly type: 'put' | 'remove' | 'bookmark'
  readonly object: unknown
  /** Where to go on after this event; empty when the server does not say. */
  readonly resourceVersion: string
}

const lineLimitBytes = 16 * 1024 * 1024
const graceMs = 15_000

/**
 * The events of one watch, until the server ends it. Throws an `ApiStatusError` for an error that comes as an event
 * too, an `ApiProtocolError` for a line that cannot be read, and what `ApiClient.get` throws.
 */
export async function* watchObjects(request: WatchRequest, signal: AbortSignal): AsyncGenerator<WatchEvent> {
  const { client, address, resourceVersion, bookmarks, seconds, onAnswer } = request
  const { path } = address
  const query = {
    ...address.query,
    watch: 'true',
    timeoutSeconds: String(seconds),
    ...(resourceVersion !== '' && { resourceVersion }),
    ...(bookmarks && { allowWatchBookmarks: 'true' }),
  }
  const totalMs = seconds * 1000 + graceMs
  const timeouts = { connectMs: 10_000, answerMs: 30_000, idleMs: totalMs, totalMs }
  const decoder = new LineDecoder(lineLimitBytes)
  for await (const chunk of client.get({ path, query, isWatch: true, timeouts, onAnswer }, signal)) {
    for (const line of decoder.push(chunk)) {
      const event = parseEvent(path, line)
      if (event !== undefined) yield event
    }
  }
}

const eventTypes: Readonly<Record<string, WatchEvent['type']>> = {
  ADDED: 'put',
  MODIFIED: 'put',
  DELETED: 'remove',
  BOOKMARK: 'bookmark',
}

/** Undefined for a type of event that this version does not know. */
function parseEvent(path: string, line: string): WatchEvent | undefined {
  const { type, object } = parseLine(path, line)
  if (type === 'ERROR') throw statusErrorOf(path, object)
  const known = eventTypes[String(type)]
  if (known === undefined) return undefined
  const resourceVersion: unknown = Reflect.get(Object(Reflect.get(Object(object), 'metadata')), 'resourceVersion')
  return { type: known, object, resourceVersion: typeof resourceVersion === 'string' ? resourceVersion : '' }
}

function parseLine(path: string, line: string): { readonly type?: unknown; readonly object?: unknown } {
  try {
    return Object(JSON.parse(line))
  } catch (error) {
    throw new ApiProtocolError(`Cannot watch ${path}: a line is no JSON`, { cause: error })
  }
}

function statusErrorOf(path: string, object: unknown): ApiStatusError {
  const { code, reason, message } = Object(object) as { code?: unknown; reason?: unknown; message?: unknown }
  const isExpired = reason === 'Expired' || reason === 'Gone'
  const status = typeof code === 'number' && !isExpired ? code : isExpired ? 410 : 500
  return new ApiStatusError(`watch ${path}`, status, { text: String(message ?? reason ?? '') })
}
