import { type Backend, backendIdOf } from '../../model/index.ts'
import { createLoggedTasks, type Logger } from '../../observability/index.ts'
import { backoffDelayMs, sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import type { AskedPlace } from './questioner.ts'
import type { ReachedEndpoints } from './reached-endpoints.ts'

/** An address of endpoints on another node. */
export interface Place extends AskedPlace {
  readonly tcpPorts: ReadonlySet<number>
}

/** What is known of one place, for status. */
export interface PlaceStatus extends AskedPlace {
  /** Why it is reached through the tunnel; absent while it is reached directly. */
  readonly reason?: string
}

/** What confirming needs. */
export interface ConfirmationsOptions {
  /** Why a place need not be asked, by what is known here; undefined when it should be. */
  readonly reasonAgainst: (place: AskedPlace) => string | undefined
  /** The source addresses that must all get an answer; undefined is the one that the kernel chooses. */
  readonly sources: () => readonly (string | undefined)[]
  /** Why the address does not lead to the node, or undefined. */
  readonly ask: (place: AskedPlace, source: string | undefined, signal: AbortSignal) => Promise<string | undefined>
  /** Whether a TCP port there takes connections from this node. */
  readonly accepts: (address: string, port: number, signal: AbortSignal) => Promise<boolean>
  /** Whether `contacted` is called for all that the kernel sends; else all places count as used. */
  readonly seesUse: boolean
  readonly onChange: () => void
  readonly logger: Logger
  /** A monotonic clock. */
  readonly nowMs: () => number
  /** Replaced in tests. */
  readonly sleep?: typeof sleep
}

/**
 * Knows which addresses on other nodes lead to these nodes and not to others that use the same address. Each that is used is
 * asked again every few seconds, others seldom; all at once when the network of this node changed, and an idle one when it
 * is used again. The first question that fails takes a place back.
 */
export interface Confirmations extends AsyncDisposable {
  readonly reached: ReachedEndpoints
  /** Replaces the places that matter; those known before stay as they are. */
  want(places: readonly Place[]): void
  /** The network changed: everything is asked again now. */
  askAgain(): void
  /** A connection to this endpoint failed: it is connected to at once, and taken back when that fails as well. */
  suspect(endpoint: Backend): void
  /** A connection to this endpoint is about to be made. */
  used(endpoint: Backend): void
  /** The kernel has lately begun connections to these addresses. */
  contacted(addresses: ReadonlySet<string>): void
  status(): readonly PlaceStatus[]
}

/** How often places are asked: each at most so often, and all together at most so many questions a second. */
interface Pace {
  readonly everyMs: number
  readonly questionsPerSecond: number
}

/** Of places that count as used, and of all others. */
const usedPace: Pace = { everyMs: 2_000, questionsPerSecond: 100 }
/** A question and its answer are 200 bytes at both ends: 6.5 MB a day for a node that asks and is asked so often. */
const idlePace: Pace = { everyMs: 120_000, questionsPerSecond: 0.2 }
/** A place counts as used for so long after it was used last, was found, or was taken back. */
const inUseMs = 60_000
const lookEveryMs = 1_000
const retry = { firstMs: 1_000, maxMs: 60_000, jitter: 0.2 }
const mostAtOnce = 32
const acceptTimeoutMs = 1_000

interface Entry {
  place: Place
  isConfirmed: boolean
  reason: string
  failures: number
  lookedAtMs: number
  /** Of one that is not confirmed: how soon to look again. */
  retryMs: number
  /** What is known here speaks against it, so that it is not asked. */
  isHeldBack: boolean
  inUseUntilMs: number
  /** What is known of TCP ports; a closed one is asked again when due. */
  readonly ports: Map<number, { isOpen: boolean; failures: number; dueMs: number }>
}

/** Makes confirmations that ask nobody until places are wanted. */
export function createConfirmations(options: ConfirmationsOptions): Confirmations {
  return new RunningConfirmations(options)
}

class RunningConfirmations implements Confirmations {
  readonly #options: ConfirmationsOptions
  readonly #sleep: typeof sleep
  readonly #tasks: TaskGroup
  readonly #entries = new Map<string, Entry>()
  readonly #looking = new Set<Entry>()
  #reached: ReachedEndpoints & { readonly ids: ReadonlySet<string> } = reachedOf([])
  #wake: () => void = () => {}
  #isRunning = false
  /** Something may be reached that was not, or the other way round. */
  #isChanged = false

  constructor(options: ConfirmationsOptions) {
    this.#options = options
    this.#sleep = options.sleep ?? sleep
    this.#tasks = createLoggedTasks(options.logger)
  }

  get reached(): ReachedEndpoints {
    return this.#reached
  }

  want(places: readonly Place[]): void {
    const wanted = new Map(places.map((place) => [idOf(place), place]))
    for (const id of this.#entries.keys()) if (!wanted.has(id)) this.#entries.delete(id)
    this.#isChanged = true
    for (const [id, place] of wanted) {
      const known = this.#entries.get(id)
      if (known === undefined) this.#entries.set(id, newEntry(place, this.#options.nowMs() + inUseMs))
      else replacePlace(known, place)
    }
    this.#publish()
    if (wanted.size > 0) this.#run()
    this.#wake()
  }

  askAgain(): void {
    for (const entry of this.#entries.values()) Object.assign(entry, { lookedAtMs: never, failures: 0 })
    this.#wake()
  }

  used(endpoint: Backend): void {
    const entry = this.#entries.get(`${endpoint.nodeName}/${endpoint.address}`)
    if (entry !== undefined) this.#setUsed(entry)
  }

  contacted(addresses: ReadonlySet<string>): void {
    if (addresses.size === 0) return
    for (const entry of this.#entries.values()) if (addresses.has(entry.place.address)) this.#setUsed(entry)
  }

  suspect(endpoint: Backend): void {
    const entry = this.#entries.get(`${endpoint.nodeName}/${endpoint.address}`)
    const port = entry?.ports.get(endpoint.port)
    if (entry === undefined || port === undefined || !port.isOpen) return
    port.dueMs = 0
    entry.lookedAtMs = never
    this.#wake()
  }

  status(): readonly PlaceStatus[] {
    return [...this.#entries.values()].map(({ place: { nodeName, address }, isConfirmed, reason, ports }) => {
      const closed = [...ports].filter(([, { isOpen }]) => !isOpen).map(([port]) => port)
      const told = !isConfirmed ? reason : closed.length > 0 ? `no connection to port ${closed.join(', ')}` : undefined
      return { nodeName, address, ...(told !== undefined && { reason: told }) }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
  }

  #run(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    this.#tasks.run('confirmations', async (signal) => {
      while (this.#entries.size > 0) {
        const woken = new AbortController()
        this.#wake = () => woken.abort()
        this.#beginDue()
        const restMs = Math.max(0, Math.min(lookEveryMs, this.#msUntilDue()))
        await this.#sleep(restMs, AbortSignal.any([signal, woken.signal])).catch(() => signal.throwIfAborted())
      }
      this.#isRunning = false
    })
  }

  #msUntilDue(): number {
    if (this.#looking.size >= mostAtOnce) return lookEveryMs
    const now = this.#options.nowMs()
    const pauseOf = this.#pauses(now)
    let next = Number.POSITIVE_INFINITY
    for (const entry of this.#entries.values()) {
      if (!this.#looking.has(entry)) next = Math.min(next, entry.lookedAtMs + pauseOf(entry))
    }
    return next - now
  }

  /** How long after a look the next one is due. */
  #pauses(now: number): (entry: Entry) => number {
    const isUsed = ({ inUseUntilMs }: Entry) => inUseUntilMs > now || !this.#options.seesUse
    let used = 0
    for (const entry of this.#entries.values()) if (isUsed(entry)) used += 1
    const sources = this.#options.sources().length
    const usedMs = pauseFor(used * sources, usedPace)
    const idleMs = pauseFor((this.#entries.size - used) * sources, idlePace)
    return (entry) => {
      if (entry.isHeldBack) return lookEveryMs
      const pauseMs = entry.isConfirmed ? usedMs : entry.retryMs
      return isUsed(entry) ? pauseMs : Math.max(pauseMs, idleMs)
    }
  }

  /** An idle place that was not asked lately is asked now. */
  #setUsed(entry: Entry): void {
    const now = this.#options.nowMs()
    const wasIdle = entry.inUseUntilMs <= now
    entry.inUseUntilMs = now + inUseMs
    if (wasIdle) this.#wake()
  }

  /** Begins to look at all that are due, some at a time: one that keeps others waiting must not. */
  #beginDue(): void {
    const now = this.#options.nowMs()
    const pauseOf = this.#pauses(now)
    const isDue = (entry: Entry) => entry.lookedAtMs + pauseOf(entry) <= now
    for (const entry of this.#entries.values()) {
      if (this.#looking.size >= mostAtOnce) return
      if (!this.#looking.has(entry) && (isDue(entry) || this.#isOutdated(entry))) this.#begin(entry)
    }
  }

  #begin(entry: Entry): void {
    this.#looking.add(entry)
    this.#tasks.run('confirmation', async (signal) => {
      try {
        await this.#look(entry, signal)
        this.#publish()
      } finally {
        const wasFull = this.#looking.size >= mostAtOnce
        this.#looking.delete(entry)
        if (wasFull || this.#looking.size === 0) this.#wake()
      }
    })
  }

  /** What is known here speaks against it now, or does no more. */
  #isOutdated({ place, isConfirmed }: Entry): boolean {
    return isConfirmed && this.#options.reasonAgainst(place) !== undefined
  }

  async #look(entry: Entry, signal: AbortSignal): Promise<void> {
    const { nowMs, reasonAgainst } = this.#options
    entry.lookedAtMs = nowMs()
    const against = reasonAgainst(entry.place)
    if (entry.isHeldBack && against === undefined) entry.inUseUntilMs = nowMs() + inUseMs
    entry.isHeldBack = against !== undefined
    if (against !== undefined) {
      this.#setReason(entry, against)
      entry.failures = 0
      return
    }
    const failure = await this.#askFromAll(entry.place, signal)
    // What changed while it was asked counts for the next question.
    if (entry.lookedAtMs !== never) entry.lookedAtMs = nowMs()
    if (failure !== undefined) {
      // Where it was right until now a key may be gone, or a datagram lost: that shows soon.
      entry.failures = entry.isConfirmed ? 0 : entry.failures + 1
      this.#setReason(entry, failure)
      entry.retryMs = backoffDelayMs(retry, Math.max(1, entry.failures), Math.random)
      return
    }
    await this.#lookAtPorts(entry, signal)
    const { nodeName, address } = entry.place
    if (!entry.isConfirmed) this.#options.logger.info({ node: nodeName, address }, 'an address leads to its node')
    this.#isChanged ||= !entry.isConfirmed
    entry.isConfirmed = true
    entry.failures = 0
  }

  async #askFromAll(place: Place, signal: AbortSignal): Promise<string | undefined> {
    const answers = await Promise.all(this.#options.sources().map((source) => this.#options.ask(place, source, signal)))
    return answers.find((failure) => failure !== undefined)
  }

  /** A firewall there may let questions through and nothing else; each port is connected to once. */
  async #lookAtPorts({ place, ports }: Entry, signal: AbortSignal): Promise<void> {
    const { nowMs, accepts } = this.#options
    const due = [...place.tcpPorts].filter((port) => (ports.get(port)?.dueMs ?? 0) <= nowMs())
    await Promise.all(
      due.map(async (port) => {
        using attempt = new TimeLimit(acceptTimeoutMs, signal)
        const isOpen = await accepts(place.address, port, attempt.signal)
        signal.throwIfAborted()
        const failures = isOpen ? 0 : (ports.get(port)?.failures ?? 0) + 1
        const delayMs = isOpen ? Number.POSITIVE_INFINITY : backoffDelayMs(retry, failures, Math.random)
        this.#isChanged ||= ports.get(port)?.isOpen !== isOpen
        ports.set(port, { isOpen, failures, dueMs: nowMs() + delayMs })
      }),
    )
  }

  #setReason(entry: Entry, reason: string): void {
    const { nodeName, address } = entry.place
    if (entry.isConfirmed) {
      this.#options.logger.warn({ node: nodeName, address, reason }, 'an address does not lead to its node any more')
    }
    this.#isChanged ||= entry.isConfirmed
    if (entry.isConfirmed) entry.inUseUntilMs = this.#options.nowMs() + inUseMs
    entry.isConfirmed = false
    entry.reason = reason
    // Who is confirmed again is connected to again.
    entry.ports.clear()
  }

  #publish(): void {
    if (!this.#isChanged) return
    this.#isChanged = false
    const reached = reachedOf(this.#entries.values())
    const { ids } = this.#reached
    if (ids.size === reached.ids.size && [...ids].every((id) => reached.ids.has(id))) return
    this.#reached = reached
    this.#options.onChange()
  }
}

const idOf = ({ nodeName, address }: AskedPlace): string => `${nodeName}/${address}`

const never = Number.NEGATIVE_INFINITY

function newEntry(place: Place, inUseUntilMs: number): Entry {
  const asked = { isConfirmed: false, reason: 'not asked yet', failures: 0, lookedAtMs: never, retryMs: 0 }
  return { place, ...asked, isHeldBack: false, inUseUntilMs, ports: new Map() }
}

function replacePlace(entry: Entry, place: Place): void {
  entry.place = place
  for (const port of entry.ports.keys()) if (!place.tcpPorts.has(port)) entry.ports.delete(port)
  const isMore = [...place.tcpPorts].some((port) => !entry.ports.has(port))
  // A place that is not confirmed has no ports yet.
  if (entry.isConfirmed && isMore) entry.lookedAtMs = never
}

const pauseFor = (questions: number, { everyMs, questionsPerSecond }: Pace): number =>
  Math.max(everyMs, (questions / questionsPerSecond) * 1_000)

function reachedOf(entries: Iterable<Entry>): ReachedEndpoints & { readonly ids: ReadonlySet<string> } {
  const ids = new Set<string>()
  // Asked about every endpoint there is, of which few are reached.
  const addresses = new Set<string>()
  for (const { place, isConfirmed, ports } of entries) {
    if (!isConfirmed) continue
    addresses.add(place.address)
    ids.add(idOf(place))
    for (const [port, { isOpen }] of ports) if (isOpen) ids.add(`${idOf(place)}:${port}`)
  }
  return {
    ids,
    has(endpoint, protocol) {
      if (!addresses.has(endpoint.address)) return false
      return ids.has(protocol === 'tcp' ? backendIdOf(endpoint) : `${endpoint.nodeName}/${endpoint.address}`)
    },
  }
}
