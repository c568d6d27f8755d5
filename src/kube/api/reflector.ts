import type { ObjectKind, ObjectSink } from '../../catalog/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { type BackoffPolicy, backoffDelayMs, sleep } from '../../runtime/index.ts'
import type { ResourceStatus } from '../object-source.ts'
import type { ApiClient } from './api-client.ts'
import {
  ApiProtocolError,
  ApiStatusError,
  ApiTimeoutError,
  isExpired,
  isNotServed,
  OriginKnowsNothingError,
} from './errors.ts'
import { knowsSomething, listObjects, versionOf } from './list-objects.ts'
import { ObjectFeed } from './object-feed.ts'
import { type ApiResource, addressOf, type ResourceAddress, type Selection, type WatchedKind } from './resources.ts'
import { type WatchEvent, watchObjects } from './watch-objects.ts'

/** What an origin can and cannot do. */
export interface OriginHabits {
  /** It tells the position of a quiet watch. */
  readonly bookmarks: boolean
  /** It keeps a history: a watch goes on where the last one ended. Without, each end of a watch needs a new list. */
  readonly history: boolean
}

/** How often things are tried. */
export interface ReflectorTiming {
  readonly retry: BackoffPolicy
  /** A watch lasts between these, so that many nodes do not come back at once. */
  readonly watchSeconds: readonly [least: number, most: number]
  /** How soon a resource that is not served is asked for again. */
  readonly recheckMs: number
  /** A watch that ends sooner, without an event, counts as failed. */
  readonly shortWatchMs: number
  /** How long others wait for the first list of what the mesh works without. */
  readonly patienceMs: number
  /** Draws 0..1. */
  readonly random: () => number
}

/** What one reflector needs. */
export interface ReflectorOptions<K extends ObjectKind> {
  readonly client: ApiClient
  readonly watched: WatchedKind<K>
  /** Which of the objects; all when absent. */
  readonly selection?: Selection
  readonly sink: ObjectSink
  readonly logger: Logger
  readonly habits: OriginHabits
  readonly timing: ReflectorTiming
  /** True when the sink holds objects of an earlier run, which an origin that knows nothing must not take away. */
  readonly isWarm: () => boolean
  readonly onMalformed: () => void
}

const pageSize = 500
/** With the usual delays about a minute. */
const passingRefusals = 8
/** Without history each end of a watch costs a list. */
const liveWatchFactor = 3
/** A watch that is accepted only with its first event must not keep the list waiting. */
const silentWatchMs = 3_000

/** Where a watch goes on, and of which resource. */
interface Position<K extends ObjectKind> {
  readonly resource: ApiResource<K>
  resourceVersion: string
  /** False when only a new list tells what happened after this watch. */
  readonly isLasting: boolean
}

interface WatchCallbacks {
  readonly onEvent: (event: WatchEvent) => void
  /** The watch has been of use. */
  readonly onProgress: () => void
  readonly onAnswer?: () => void
}

/**
 * Keeps one kind of objects in the sink equal to the API's: lists, watches from there, goes on after an interruption,
 * and lists again when the API has forgotten the position.
 *
 *     listing ──► watching ──► (ends, fails: goes on from its position)
 *        ▲  └─────── │ ─────► waiting ──┐
 *        └─ (expired, unreadable) ◄─────┘
 */
export class Reflector<K extends ObjectKind> {
  readonly #options: ReflectorOptions<K>
  readonly #feed: ObjectFeed<K>
  #position: Position<K> | undefined
  #resource: ApiResource<K>
  #loggedResource: ApiResource<K> | undefined
  #state: ResourceStatus['state'] = 'listing'
  #lastError: string | undefined
  #notOffered: string | undefined
  #lastSyncAt: Date | undefined
  /** The API was away and may not be the same as before. */
  #isInDoubt = false
  /** How many lists in a row expired between two pages. */
  #expiredLists = 0

  constructor(options: ReflectorOptions<K>) {
    this.#options = options
    this.#resource = options.watched.resources[0]
    const { sink, logger, onMalformed, watched } = options
    this.#feed = new ObjectFeed({ kind: watched.kind, sink, logger, onMalformed })
  }

  /** How it fares now. */
  status(): ResourceStatus {
    return {
      kind: this.#options.watched.kind,
      ...(this.#options.selection !== undefined && { selection: selectionText(this.#options.selection) }),
      apiVersion: this.#resource.apiVersion,
      state: this.#state,
      objects: this.#feed.size,
      malformed: this.#feed.malformed,
      incomplete: this.#feed.incomplete,
      ...(this.#lastError !== undefined && { lastError: this.#lastError }),
      ...(this.#notOffered !== undefined && { notOffered: this.#notOffered }),
      ...(this.#lastSyncAt !== undefined && { lastSyncAt: this.#lastSyncAt.toISOString() }),
    }
  }

  /** Runs until the signal aborts; no error of the API ends it. */
  async run(signal: AbortSignal): Promise<void> {
    const failures = { expired: 0, other: 0 }
    const onProgress = () => Object.assign(failures, { expired: 0, other: 0 })
    const tooLate = () => this.#countAsNone(new ApiTimeoutError('the first list is not there yet'))
    using _patience = callLater(this.#options.timing.patienceMs, tooLate)
    while (!signal.aborted) {
      try {
        if (this.#options.habits.history) await this.#followHistory(signal, onProgress)
        else await this.#followLive(signal, onProgress)
      } catch (error) {
        signal.throwIfAborted()
        // To have forgotten the position is an answer, so the new list need not wait as if the API were away.
        if (isExpired(error)) Object.assign(failures, { expired: failures.expired + 1, other: 0 })
        else failures.other += 1
        await sleep(this.#delayAfter(error, Math.max(failures.expired, failures.other)), signal)
      }
    }
  }

  /** One watch, from where the last one ended; before it a list when there is no such place. */
  async #followHistory(signal: AbortSignal, onProgress: () => void): Promise<void> {
    if (this.#isInDoubt && (await this.#isRewound(signal))) this.#position = undefined
    this.#isInDoubt = false
    this.#position ??= await this.#firstServed((resource) => this.#list(resource, signal))
    const position = this.#position
    const { resource } = position
    try {
      await this.#watch(position, signal, { onProgress, onEvent: (event) => this.#take(event, position) })
      if (await this.#isBetterServed(resource, signal)) this.#position = undefined
    } finally {
      if (!position.isLasting) this.#position = undefined
    }
  }

  /**
   * True when the API is at an earlier version than the position: it was restored from a backup, or is another one at
   * the same address. It would accept the watch, and be silent until it has caught up.
   */
  async #isRewound(signal: AbortSignal): Promise<boolean> {
    const { resource, resourceVersion } = this.#position ?? {}
    if (resource === undefined) return false
    const current = await versionOf(this.#options.client, this.#addressOf(resource), signal)
    const areNumbers = [current, resourceVersion].every((version) => /^\d{1,15}$/.test(version ?? ''))
    return areNumbers && Number(current) < Number(resourceVersion)
  }

  /**
   * One watch with a list inside: an origin that tells only what happens while it is watched would otherwise lose
   * what happens between the two. Events of the time before the list repeat in order what the list knows already.
   */
  async #followLive(signal: AbortSignal, onProgress: () => void): Promise<void> {
    const resource = await this.#firstServed((candidate) => this.#probe(candidate, signal))
    const position: Position<K> = { resource, resourceVersion: '', isLasting: false }
    const ends = new AbortController()
    using _ends = abortWith(signal, ends)
    const early: WatchEvent[] = []
    let isListed = false
    const onEvent = (event: WatchEvent) => {
      if (isListed) this.#take(event, position)
      else early.push(event)
    }
    const { promise: answered, resolve: onAnswer } = Promise.withResolvers<void>()
    const watching = this.#watch(position, ends.signal, { onProgress, onEvent, onAnswer })
    try {
      await Promise.race([answered, watching, sleep(silentWatchMs, ends.signal)])
      const endsEarly = watching.then(() =>
        Promise.reject(new Error(`Cannot watch ${this.#addressOf(resource).path}: it ended early`)),
      )
      await Promise.race([this.#list(resource, ends.signal), endsEarly])
      isListed = true
      for (const event of early.splice(0)) this.#take(event, position)
      await watching
    } finally {
      ends.abort()
      await Promise.allSettled([watching])
    }
  }

  /** The result for the best resource that is served. */
  async #firstServed<T>(attempt: (resource: ApiResource<K>) => Promise<T>): Promise<T> {
    let failure: unknown
    for (const resource of this.#options.watched.resources) {
      try {
        return await attempt(resource)
      } catch (error) {
        if (!this.#mayTryNext(error)) throw error
        failure = error
      }
    }
    throw failure
  }

  async #probe(resource: ApiResource<K>, signal: AbortSignal): Promise<ApiResource<K>> {
    const address = this.#addressOf(resource)
    if (!(await knowsSomething(this.#options.client, address, signal))) throw new OriginKnowsNothingError(address.path)
    return resource
  }

  async #list(resource: ApiResource<K>, signal: AbortSignal): Promise<Position<K>> {
    const { client } = this.#options
    this.#state = 'listing'
    const address = this.#addressOf(resource)
    const listing = this.#feed.startList(resource.parse)
    const onItem = (item: unknown) => listing.add(item)
    try {
      // Where pages expire again and again, one answer has to hold everything.
      const size = this.#expiredLists > 1 ? undefined : pageSize
      const { resourceVersion, count } = await listObjects({ client, address, pageSize: size, onItem }, signal)
      if (resourceVersion === '' && count === 0) throw new OriginKnowsNothingError(address.path)
      this.#expiredLists = 0
      listing.complete()
      this.#synced(resource)
      return { resource, resourceVersion, isLasting: resourceVersion !== '' }
    } catch (error) {
      if (isExpired(error)) this.#expiredLists += 1
      throw error
    }
  }

  /** Resolves when the server ends the watch; one that ends at once counts as failed. */
  async #watch(position: Position<K>, signal: AbortSignal, on: WatchCallbacks): Promise<void> {
    const { client, habits, timing } = this.#options
    const address = this.#addressOf(position.resource)
    const [least, most] = timing.watchSeconds
    const stretch = habits.history ? 1 : liveWatchFactor
    const seconds = Math.round((least + (most - least) * timing.random()) * stretch)
    let answeredAt = Number.POSITIVE_INFINITY
    const onAnswer = () => {
      answeredAt = performance.now()
      this.#answered()
      on.onAnswer?.()
    }
    const isLong = () => performance.now() - answeredAt >= timing.shortWatchMs
    let events = 0
    const { resourceVersion } = position
    const request = { client, address, resourceVersion, bookmarks: habits.bookmarks, seconds, onAnswer }
    try {
      for await (const event of watchObjects(request, signal)) {
        events += 1
        on.onEvent(event)
      }
    } catch (error) {
      // Silent until its last moment: it stalled, or the server does not end watches. The next one tells.
      if (!(error instanceof ApiTimeoutError && isLong())) throw error
    } finally {
      if (events > 0 || isLong()) on.onProgress()
    }
    if (events === 0 && !isLong()) throw new Error(`Cannot watch ${address.path}: it ended at once`)
  }

  #take({ type, object, resourceVersion }: WatchEvent, position: Position<K>): void {
    if (type === 'put') this.#feed.put(position.resource.parse, object)
    if (type === 'remove') this.#feed.remove(object)
    if (resourceVersion !== '') position.resourceVersion = resourceVersion
    this.#lastSyncAt = new Date()
  }

  /** A cluster that is upgraded, or a role that is extended, offers what it did not before. */
  async #isBetterServed(current: ApiResource<K>, signal: AbortSignal): Promise<boolean> {
    const { client, watched } = this.#options
    for (const resource of watched.resources) {
      if (resource === current) return false
      try {
        if (await knowsSomething(client, this.#addressOf(resource), signal)) return true
      } catch {
        signal.throwIfAborted()
      }
    }
    return false
  }

  #addressOf(resource: ApiResource<K>): ResourceAddress {
    return addressOf(resource, this.#options.selection)
  }

  #mayTryNext(error: unknown): boolean {
    // Once something was listed, an origin that knows nothing is worth less than what is known.
    return isNotServed(error) || (error instanceof OriginKnowsNothingError && !this.#feed.isListed)
  }

  #synced(resource: ApiResource<K>): void {
    const { logger, watched } = this.#options
    this.#answered()
    this.#lastSyncAt = new Date()
    const reason = `${watched.kind} from ${resource.apiVersion} ${resource.plural}`
    if (resource !== this.#loggedResource) logger.info({ reason, count: this.#feed.size }, 'objects are listed')
    this.#resource = resource
    this.#loggedResource = resource
  }

  #answered(): void {
    this.#state = 'watching'
    if (this.#lastError !== undefined) {
      this.#options.logger.info({ reason: this.#options.watched.kind }, 'the API answers again')
    }
    this.#lastError = undefined
    this.#notOffered = undefined
  }

  /** Takes note of an error; gives how long to wait before the next attempt. */
  #delayAfter(error: unknown, failures: number): number {
    const { logger, timing } = this.#options
    const text = describeError(error)
    const reason = `${this.#options.watched.kind}: ${text}`
    this.#state = 'waiting'
    this.#countAsNone(error)
    if (this.#isNotOffered(error) && !this.#isPassing(failures)) {
      if (this.#notOffered !== text) logger.info({ reason }, 'the API does not offer this; it is asked again later')
      this.#notOffered = text
      return timing.recheckMs * (0.5 + timing.random() / 2)
    }
    const isNews = this.#lastError !== text
    this.#lastError = text
    this.#isInDoubt = true
    // An API that refuses a position again and again may yet take a new one.
    const isRefused = error instanceof ApiStatusError && failures % 4 === 0
    if (isExpired(error) || isRefused || error instanceof ApiProtocolError) this.#position = undefined
    if (isNews && isExpired(error)) logger.info({ reason }, 'a watch is too old to go on; objects are listed again')
    else if (isNews) logger.warn({ reason }, `the API cannot be followed now; ${this.#whatHolds()}`)
    const askedMs = error instanceof ApiStatusError ? error.retryAfterMs : 0
    return Math.max(askedMs, backoffDelayMs(timing.retry, failures, timing.random))
  }

  /** Objects of an earlier run come from the disk, if it has any. */
  #whatHolds(): string {
    return this.#feed.isListed ? 'the last objects stay in force' : 'until it can only stored objects are known'
  }

  /** An API server that starts refuses what it will offer once it has read its roles and definitions. */
  #isPassing(failures: number): boolean {
    return this.#loggedResource !== undefined && failures <= passingRefusals
  }

  #isNotOffered(error: unknown): boolean {
    if (this.#options.watched.whenNotServed === 'error') return false
    return isNotServed(error) || error instanceof OriginKnowsNothingError
  }

  /**
   * What the mesh works without counts as listed once the API has failed to give it, so that nothing waits for it long. An
   * origin that knows nothing does not take away what an earlier run knew.
   */
  #countAsNone(error: unknown): void {
    const { watched, isWarm } = this.#options
    if (watched.whenNotServed !== 'none' || this.#feed.isListed) return
    const isNone = isNotServed(error) || (hasAnswered(error) && !isWarm())
    if (isNone) this.#feed.startList(watched.resources[0].parse).complete()
  }
}

/** The API is there, but this request of all gets no usable answer. */
function hasAnswered(error: unknown): boolean {
  return [ApiStatusError, ApiTimeoutError, ApiProtocolError, OriginKnowsNothingError].some(
    (type) => error instanceof type,
  )
}

function selectionText({ namespace, fieldSelector }: Selection): string {
  return [namespace, fieldSelector].filter((part) => part !== undefined).join(' ') || 'all'
}

function callLater(delayMs: number, callback: () => void): Disposable {
  const timer = setTimeout(callback, delayMs)
  return { [Symbol.dispose]: () => clearTimeout(timer) }
}

/** Aborts the controller when the signal does; disposal ends that. */
function abortWith(signal: AbortSignal, controller: AbortController): Disposable {
  const abort = () => controller.abort(signal.reason)
  signal.throwIfAborted()
  signal.addEventListener('abort', abort)
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', abort) }
}
