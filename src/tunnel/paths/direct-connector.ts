import type { InterfaceAddress } from '../../linux/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { type BackoffPolicy, backoffDelayMs, sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import type { NameRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import { type DirectAddress, directAddressesOf } from './direct-addresses.ts'

/** What seeking direct connections needs. */
export interface DirectConnectorOptions {
  readonly ownName: string
  readonly host: Host
  readonly book: RecordBook
  readonly tasks: TaskGroup
  /** Those that LAN neighbours share with us. */
  readonly interfaceAddresses: () => readonly InterfaceAddress[]
  readonly logger: Logger
  readonly random?: () => number
  /** Default `sleep`. */
  readonly pause?: typeof sleep
}

interface Attempts {
  /** Since the last one that did not fail, for people. */
  failed: number
  /** The same since something changed, for the pause before the next one. */
  step: number
  nextAt: number
  /** Both sides learn of each other at the same moment; the higher identity lets the other one dial. */
  headStartMs: number
  running: Promise<PeerConnection> | undefined
  lastError: string | undefined
  /** All that the node told, tried or not: when they change, waiting makes no sense. */
  addresses: string
}

/** Another node has answered at an address of a peer. */
interface Taken {
  readonly times: number
  readonly untilMs: number
}

const reconcileIntervalMs = 1000
const retryPolicy: BackoffPolicy = { firstMs: 1000, maxMs: 60_000, jitter: 0.3 }

/** For whoever has traffic: nobody may tell that a line is there again. */
const soonPolicy: BackoffPolicy = { firstMs: 1000, maxMs: 15_000, jitter: 0.3 }

/** For neighbours without traffic: sites reuse private networks, and then most of them are none. */
const nearPolicy: BackoffPolicy = { ...soonPolicy, patience: { afterAttempts: 20, maxMs: 300_000 } }

/** Where another node answers, ours is not: that is a handshake for nothing each time. */
const takenPolicy: BackoffPolicy = { firstMs: 60_000, maxMs: 3_600_000, jitter: 0.3 }

/** Traffic after so much silence is new, and does not wait for what failed before it. */
const quietMs = 15_000

/** Who had traffic lately has some now. */
const busyMs = 60_000

/** A neighbour answers at once; a wrong host on a reused private address must fail fast. */
const onLinkTimeoutMs = 1500
const publicTimeoutMs = 4000

/** How long the higher identity waits for the lower one's dial. */
const lowerFirstMs = 300

/** Addresses tried at the same time, over all peers. */
const maxParallel = 8

/** How long after the last flow a peer beyond our subnets is still worth a direct connection. */
const wantedMs = 10 * 60_000

/**
 * Seeks direct connections in the background, level by level: to every node with an address in one of our subnets, and
 * to nodes with public addresses once flows go there. Flows never wait for it while another path stands.
 */
export class DirectConnector {
  readonly #options: DirectConnectorOptions
  readonly #attempts = new Map<string, Attempts>()
  readonly #wanted = new Map<string, number>()
  /** By peer and address. */
  readonly #taken = new Map<string, Taken>()
  #wake: () => void = () => {}

  constructor(options: DirectConnectorOptions) {
    this.#options = options
  }

  /** Notes that flows go to this node. */
  want(name: string): void {
    const now = performance.now()
    const isNew = now - (this.#wanted.get(name) ?? Number.NEGATIVE_INFINITY) > quietMs
    this.#wanted.set(name, now)
    if (isNew) this.retry([name])
  }

  /** Something about these nodes has changed: what failed before does not count. */
  retry(names: readonly string[]): void {
    for (const name of names) {
      const attempts = this.#attempts.get(name)
      if (attempts !== undefined) Object.assign(attempts, { step: 0, nextAt: performance.now() + attempts.headStartMs })
    }
    this.#wake()
  }

  /** The same for all nodes: the network of this one has changed. */
  retryAll(): void {
    this.#taken.clear()
    this.retry([...this.#attempts.keys()])
  }

  /** Attempts that have failed since the last one that did not. */
  failedAttemptsOf(name: string): number {
    return this.#attempts.get(name)?.failed ?? 0
  }

  lastErrorOf(name: string): string | undefined {
    return this.#attempts.get(name)?.lastError
  }

  /** Tries all direct addresses of a node now; joins an attempt under way. Undefined when it has none. */
  connect(record: NameRecord): Promise<PeerConnection> | undefined {
    const all = this.#addressesOf(record)
    const addresses = all.filter((address) => !this.#isTaken(record, address))
    return addresses.length === 0 ? undefined : this.#attempt(record, this.#attemptsOf(record, all), addresses)
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { pause = sleep } = this.#options
    signal.addEventListener('abort', () => this.#wake(), { once: true })
    while (!signal.aborted) {
      this.#reconcile(performance.now())
      await Promise.race([pause(reconcileIntervalMs, signal), this.#woken()])
    }
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  #reconcile(now: number): void {
    const { records } = this.#options.book
    this.#forgetPast(now, records.length)
    let running = [...this.#attempts.values()].filter((attempts) => attempts.running !== undefined).length
    for (const { record } of records) {
      if (running >= maxParallel) return
      if (this.#attemptIfDue(record, now)) running += 1
    }
  }

  /** Nodes come and go for years. */
  #forgetPast(now: number, knownNodes: number): void {
    for (const [name, since] of this.#wanted) if (now - since > wantedMs) this.#wanted.delete(name)
    for (const [key, { untilMs }] of this.#taken) if (now - untilMs > takenPolicy.maxMs) this.#taken.delete(key)
    if (this.#attempts.size <= knownNodes) return
    for (const [name, { running }] of this.#attempts) {
      if (running === undefined && this.#options.book.recordOf(name) === undefined) this.#attempts.delete(name)
    }
  }

  /** True when an attempt begins. */
  #attemptIfDue(record: NameRecord, now: number): boolean {
    const { ownName, host } = this.#options
    if (record.name === ownName) return false
    const all = this.#addressesOf(record)
    const worthTrying = all.filter(({ isOnLink }) => isOnLink || this.#wanted.has(record.name))
    if (worthTrying.length === 0 || host.connectionsTo(record.peerId).some(isDirect)) return false
    const attempts = this.#attemptsOf(record, all)
    if (attempts.running !== undefined || now < attempts.nextAt) return false
    const free = worthTrying.filter((address) => !this.#isTaken(record, address))
    if (free.length === 0) return false
    this.#attempt(record, attempts, free).catch(() => {})
    return true
  }

  #isTaken(record: NameRecord, address: DirectAddress): boolean {
    return performance.now() < (this.#taken.get(keyOf(record, address))?.untilMs ?? 0)
  }

  #addressesOf(record: NameRecord): DirectAddress[] {
    const { book, ownName, interfaceAddresses } = this.#options
    return directAddressesOf(book.addressesOf(record.name), interfaceAddresses(), book.addressesOf(ownName))
  }

  #attemptsOf(record: NameRecord, addresses: readonly DirectAddress[]): Attempts {
    const key = `${record.peerId} ${addresses.map(({ multiaddress }) => multiaddress).join(' ')}`
    const known = this.#attempts.get(record.name)
    if (known?.addresses === key) return known
    const headStartMs = this.#options.host.peerId > record.peerId ? lowerFirstMs : 0
    const fresh = { failed: 0, step: 0, nextAt: performance.now() + headStartMs, headStartMs, lastError: undefined }
    // The same object, so that an attempt under way leaves it when it ends.
    const attempts: Attempts = Object.assign(known ?? { running: undefined }, fresh, { addresses: key })
    this.#attempts.set(record.name, attempts)
    return attempts
  }

  #attempt(record: NameRecord, attempts: Attempts, addresses: readonly DirectAddress[]): Promise<PeerConnection> {
    if (attempts.running !== undefined) return attempts.running
    const { promise, resolve, reject } = Promise.withResolvers<PeerConnection>()
    attempts.running = promise
    promise.catch(() => {})
    this.#options.tasks.run(`direct connection to ${record.name}`, async (signal) => {
      try {
        const connection = await this.#dialAny(record, addresses, signal)
        Object.assign(attempts, { failed: 0, step: 0, nextAt: 0, lastError: undefined })
        this.#options.logger.info({ peer: record.name, address: connection.address }, 'peer connected')
        resolve(connection)
      } catch (error) {
        this.#noteFailure(record, attempts, { error, isNear: addresses.some(({ isOnLink }) => isOnLink) })
        reject(error)
      } finally {
        attempts.running = undefined
      }
    })
    if (this.#options.tasks.signal.aborted) reject(this.#options.tasks.signal.reason)
    return promise
  }

  #noteFailure(
    { name }: NameRecord,
    attempts: Attempts,
    { error, isNear }: { readonly error: unknown; readonly isNear: boolean },
  ): void {
    const isBusy = performance.now() - (this.#wanted.get(name) ?? Number.NEGATIVE_INFINITY) < busyMs
    const idlePolicy = isNear ? nearPolicy : retryPolicy
    const policy = isBusy ? soonPolicy : idlePolicy
    attempts.failed += 1
    attempts.step += 1
    attempts.nextAt = performance.now() + backoffDelayMs(policy, attempts.step, this.#options.random ?? Math.random)
    attempts.lastError = describeError(error)
    this.#options.logger.debug({ peer: name, error }, 'no direct connection')
  }

  async #dialAny(
    record: NameRecord,
    addresses: readonly DirectAddress[],
    signal: AbortSignal,
  ): Promise<PeerConnection> {
    const failures: unknown[] = []
    for (const address of addresses) {
      try {
        return await this.#dial(record, address, signal)
      } catch (error) {
        signal.throwIfAborted()
        failures.push(error)
      }
    }
    throw new AggregateError(failures, `Cannot connect to ${record.name} directly`)
  }

  async #dial(record: NameRecord, address: DirectAddress, signal: AbortSignal): Promise<PeerConnection> {
    using limit = new TimeLimit(address.isOnLink ? onLinkTimeoutMs : publicTimeoutMs, signal)
    const connection = await this.#options.host.dial(address.multiaddress, limit.signal)
    const key = keyOf(record, address)
    if (connection.peerId === record.peerId) {
      this.#taken.delete(key)
      return connection
    }
    const times = (this.#taken.get(key)?.times ?? 0) + 1
    const delayMs = backoffDelayMs(takenPolicy, times, this.#options.random ?? Math.random)
    this.#taken.set(key, { times, untilMs: performance.now() + delayMs })
    const error = new Error(`${address.multiaddress} is ${connection.peerId}, not ${record.name}`)
    connection.abort(error)
    throw error
  }
}

function keyOf({ peerId }: NameRecord, { multiaddress }: DirectAddress): string {
  return `${peerId} ${multiaddress}`
}
