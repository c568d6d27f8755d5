import type { ApiClient, RequestTimeouts } from './api-client.ts'
import { ApiStatusError } from './errors.ts'
import { ListDecoder, type ListHead } from './list-decoder.ts'
import type { ResourceAddress } from './resources.ts'

/** A list of objects. */
export interface ListRequest {
  readonly client: ApiClient
  readonly address: ResourceAddress
  /** Objects a page; undefined asks for all at once. */
  readonly pageSize: number | undefined
  /** Is given each item; undefined in place of one that is no JSON or too large. */
  readonly onItem: (item: unknown) => void
}

/** What is known of a list when it is complete. */
export interface ListResult {
  /** Where a watch goes on; empty when the server gives none. */
  readonly resourceVersion: string
  readonly count: number
}

/** A page of large objects over a slow link takes its time, but never stands still for long. */
const timeouts: RequestTimeouts = { connectMs: 10_000, answerMs: 30_000, idleMs: 30_000, totalMs: 300_000 }
const limits = { itemBytes: 8 * 1024 * 1024, headBytes: 1024 * 1024 }
/** More pages than this can only be a server that repeats itself. */
const mostPages = 100_000

/**
 * Lists all objects of an address, page by page. Throws an `ApiStatusError` that `isExpired` when a later page is no
 * longer to be had; the list then has to start again.
 */
export async function listObjects(request: ListRequest, signal: AbortSignal): Promise<ListResult> {
  const { pageSize } = request
  let count = 0
  let query: Record<string, string> = pageSize === undefined ? {} : { limit: String(pageSize) }
  for (let page = 0; page < mostPages; page++) {
    const { resourceVersion, continueToken } = await readPage(request, query, signal, () => {
      count += 1
    })
    if (continueToken === '') return { resourceVersion, count }
    query = { limit: String(pageSize), continue: continueToken }
  }
  throw new ApiStatusError(`list ${request.address.path}`, 410, { text: 'the list has no end' })
}

async function readPage(
  { client, address, onItem }: ListRequest,
  query: Readonly<Record<string, string>>,
  signal: AbortSignal,
  onCount: () => void,
): Promise<ListHead> {
  const decoder = new ListDecoder(limits)
  for await (const chunk of client.get(
    { path: address.path, query: { ...address.query, ...query }, timeouts },
    signal,
  )) {
    for (const item of decoder.push(chunk)) {
      onCount()
      onItem(item)
    }
  }
  return decoder.finish()
}

/** Whether the origin has anything to say there: a list that is not empty, or one with a resource version. */
export async function knowsSomething(
  client: ApiClient,
  address: ResourceAddress,
  signal: AbortSignal,
): Promise<boolean> {
  const { resourceVersion, count } = await readOne(client, address, timeouts, signal)
  return resourceVersion !== '' || count > 0
}

/** The present resource version there; empty when the origin gives none. */
export async function versionOf(client: ApiClient, address: ResourceAddress, signal: AbortSignal): Promise<string> {
  return (await readOne(client, address, timeouts, signal)).resourceVersion
}

/** Throws unless the other end answers as an API does that lets us in. */
export async function probeApi(client: ApiClient, probeTimeouts: RequestTimeouts, signal: AbortSignal): Promise<void> {
  await readOne(client, { path: '/api/v1/services', query: {} }, probeTimeouts, signal)
}

async function readOne(
  client: ApiClient,
  { path, query }: ResourceAddress,
  limitedTo: RequestTimeouts,
  signal: AbortSignal,
): Promise<ListResult> {
  const decoder = new ListDecoder(limits)
  let count = 0
  for await (const chunk of client.get({ path, query: { ...query, limit: '1' }, timeouts: limitedTo }, signal)) {
    count += [...decoder.push(chunk)].length
  }
  return { resourceVersion: decoder.finish().resourceVersion, count }
}
