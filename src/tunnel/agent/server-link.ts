import type { ByteStream, HttpProxy } from '../../net/index.ts'
import type { Logger } from '../../observability/index.ts'
import { aborted, backoffDelayMs, TimeLimit } from '../../runtime/index.ts'
import { DirectoryRefusedError, runDirectorySession } from '../directory/directory-session.ts'
import { directoryProtocol } from '../directory/messages.ts'
import { LinkEndedError } from '../host/handshake-watch.ts'
import type { Host } from '../host/host.ts'
import { isUnsupported, type PeerConnection } from '../host/peer-connection.ts'
import { isHandshakeFailure } from '../host/private-network.ts'
import { type ServerAddress, socketAddressOf } from '../host/server-address.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { ServerStatus } from '../tunnel.ts'
import type { OwnRecord } from './own-record.ts'
import { explainFailure, ServerIdentityError } from './server-failure.ts'
import { serverRetryPolicy } from './server-retry.ts'

/** What a link to a server needs. */
export interface ServerLinkOptions {
  readonly address: ServerAddress
  readonly host: Host
  readonly book: RecordBook
  readonly ownRecord: OwnRecord
  readonly hasPreSharedKey: boolean
  /** A relay of the Go system will do: it has no directory. Any node may be behind a relay: those of the Go system tell none. */
  readonly isDirectoryOptional: boolean
  /** Links by the peer ID of the server they stand to; two addresses of one server share a link. */
  readonly standing: Map<string, ServerLink>
  /** The site's proxy, where one leads to the server. */
  proxyOf(server: { readonly host: string; readonly port: number }): HttpProxy | undefined
  /** Called when who can be reached through the server may have changed. */
  readonly onChange: () => void
  /** Called with the names of nodes that the server has just met, or met again. */
  readonly onSeen: (names: readonly string[]) => void
  /** Called when the link is lost: what another address of the same server waits for. */
  readonly onLost: () => void
  readonly logger: Logger
}

class SameServerError extends Error {
  override readonly name = 'SameServerError'
}

/** Failures that only a person can end. */
const hopeless = [ServerIdentityError, SameServerError, DirectoryRefusedError]

const hopelessRetryMs = 15_000
const connectTimeoutMs = 5000
/** Between measurements of the round trip: a few bytes each. */
const measureMs = 60_000
/** The same failure is told again after this long. */
const repeatLogMs = 60_000

/** Keeps one server connected: reserves at its relay, then exchanges records until the connection goes, and again. */
export class ServerLink {
  readonly address: ServerAddress
  readonly #options: ServerLinkOptions
  readonly #connected = new Set<string>()
  readonly #capped = new Map<string, string>()
  #peerId: string | undefined
  #isUp = false
  #connection: PeerConnection | undefined
  #roundTripMs: number | undefined
  #lastError: string | undefined
  #refusal: string | undefined
  #lastLogged = { text: '', at: 0 }
  #failedHandshakes = 0
  #lost: { readonly atMs: number; readonly nodes: number } | undefined
  #retryNow = () => {}

  constructor(options: ServerLinkOptions) {
    this.#options = options
    this.address = options.address
    this.#peerId = options.address.peerId ?? options.book.serverPinOf(options.address.text)
  }

  /** The server's identity once known. */
  get peerId(): string | undefined {
    return this.#peerId
  }

  get isUp(): boolean {
    return this.#isUp && !this.isDoubted
  }

  /** Nothing is heard of the server; the session with it goes on if it or our own line comes back. */
  get isDoubted(): boolean {
    return this.#isUp && this.#connection?.isDoubted === true
  }

  /** Of the last measurement; undefined while it is not connected. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs
  }

  /** Why the server relays nothing between this node and that one now; undefined when it does. */
  refusalOf(nodeName: string): string | undefined {
    if (this.#refusal !== undefined) return `${this.address.text} refuses this node: ${this.#refusal}`
    const { ownRecord, book } = this.#options
    const own = ownRecord.current.record
    for (const { name, peerId } of [own, { name: nodeName, peerId: book.recordOf(nodeName)?.record.peerId ?? '' }]) {
      // A server that does not take the record of a node does not know its name.
      const reason = this.#capped.get(name) ?? this.#capped.get(peerId)
      if (reason !== undefined) return `${this.address.text} does not relay for ${name}: ${reason}`
    }
    return undefined
  }

  /** True when the server says that the node is connected to it, and so can be reached through its relay. */
  reaches(nodeName: string): boolean {
    if (this.refusalOf(nodeName) !== undefined) return false
    return this.isUp && (this.#options.isDirectoryOptional || this.#connected.has(nodeName))
  }

  status(): ServerStatus {
    const lastError = this.isDoubted ? 'nothing is heard of it' : this.#lastError
    const reserved = this.isUp && this.#peerId !== undefined && this.#options.host.hasReservation(this.#peerId)
    return {
      address: this.address.text,
      connected: this.isUp,
      reserved,
      ...(this.#roundTripMs === undefined ? {} : { roundTripMs: this.#roundTripMs }),
      ...(lastError === undefined ? {} : { lastError }),
    }
  }

  /** Connects and reconnects until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      try {
        await this.#runOnce(signal, () => {
          failures = 0
        })
      } catch (error) {
        if (signal.aborted) return
        failures += 1
        if (error instanceof DirectoryRefusedError) this.#refusal = error.message
        this.#noteFailure(error)
        await this.#pause(this.#retryDelayMs(error, failures), signal)
      }
    }
  }

  /** Ends the wait for the next attempt: what kept this link from standing may be gone. */
  retry(): void {
    this.#retryNow()
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    const retry = new AbortController()
    this.#retryNow = () => retry.abort()
    using pause = new TimeLimit(delayMs, signal, retry.signal)
    await aborted(pause.signal)
  }

  async #runOnce(signal: AbortSignal, onUp: () => void): Promise<never> {
    const { host, book, ownRecord, standing, onChange, onLost, onSeen, logger } = this.#options
    this.#assertFree()
    const connection = await this.#connect(signal)
    this.#connection = connection
    const cut = () => connection.abort(new LinkEndedError('the link to the server ends'))
    signal.addEventListener('abort', cut, { once: true })
    const measuring = setInterval(() => void this.#measure(connection), measureMs)
    try {
      this.#claim(connection.peerId)
      await host.reserve(connection.peerId)
      const stream = await this.#openDirectory(connection, signal)
      this.#isUp = true
      this.#lastError = undefined
      this.#lastLogged = { text: '', at: 0 }
      onUp()
      void this.#measure(connection)
      logger.info({ address: this.address.text, peer: connection.peerId }, 'server connected')
      if (stream === undefined) {
        this.#refusal = undefined
        onChange()
        return await connectionLost(connection)
      }
      return await runDirectorySession(
        {
          stream,
          book,
          ownRecord: () => ownRecord.current,
          onOwnRecord: (listener) => ownRecord.onChange(listener),
          connected: this.#connected,
          capped: this.#capped,
          onPresence: (up) => {
            this.#refusal = undefined
            onChange()
            onSeen(up)
          },
        },
        signal,
      )
    } finally {
      signal.removeEventListener('abort', cut)
      clearInterval(measuring)
      if (this.#isUp) this.#lost = { atMs: performance.now(), nodes: this.#connected.size }
      this.#isUp = false
      this.#roundTripMs = undefined
      this.#connected.clear()
      this.#capped.clear()
      const wasStanding = standing.get(connection.peerId) === this && standing.delete(connection.peerId)
      connection.abort(new LinkEndedError('the session with the server ended'))
      onChange()
      if (wasStanding) onLost()
    }
  }

  /** Whoever chooses among servers wants to know; a server that does not answer is given up by others. */
  async #measure(connection: PeerConnection): Promise<void> {
    using limit = new TimeLimit(measureMs / 2)
    try {
      const roundTripMs = await connection.measure(limit.signal)
      if (this.#isUp) this.#roundTripMs = roundTripMs
    } catch {
      // The one measured before holds, or none.
    }
  }

  /** Undefined when the server is a relay of the Go system, and that will do. */
  async #openDirectory(connection: PeerConnection, signal: AbortSignal): Promise<ByteStream | undefined> {
    try {
      return await openDirectory(connection, signal)
    } catch (error) {
      if (isUnsupported(error) && this.#options.isDirectoryOptional) return undefined
      throw error
    }
  }

  async #connect(signal: AbortSignal): Promise<PeerConnection> {
    const { host, book, proxyOf } = this.#options
    using limit = new TimeLimit(connectTimeoutMs, signal)
    const { multiaddress } = this.address
    const connection = await host.dial(multiaddress, limit.signal, proxyOf(socketAddressOf(multiaddress)))
    const expected = this.#expectedPeerId
    if (expected !== undefined && expected !== connection.peerId) {
      const error = new ServerIdentityError(
        `the server at ${this.address.text} is ${connection.peerId}, but ${expected} was expected`,
      )
      connection.abort(error)
      throw error
    }
    if (expected === undefined) book.pinServer(this.address.text, connection.peerId)
    this.#peerId = connection.peerId
    return connection
  }

  get #expectedPeerId(): string | undefined {
    return this.address.peerId ?? this.#options.book.serverPinOf(this.address.text)
  }

  /** A server that another link stands to already is not dialled. */
  #assertFree(peerId = this.#expectedPeerId): void {
    const holder = peerId === undefined ? undefined : this.#options.standing.get(peerId)
    if (holder !== undefined && holder !== this) throw new SameServerError(`the same server as ${holder.address.text}`)
  }

  #claim(peerId: string): void {
    this.#assertFree(peerId)
    this.#options.standing.set(peerId, this)
  }

  #retryDelayMs(error: unknown, failures: number): number {
    if (hopeless.some((kind) => error instanceof kind)) return hopelessRetryMs
    const isOtherPort = [...this.#options.standing.values()].some(
      ({ address }) => hostOf(address) === hostOf(this.address),
    )
    const policy = serverRetryPolicy({
      lostForMs: this.#lost && performance.now() - this.#lost.atMs,
      nodes: this.#lost?.nodes ?? this.#options.book.records.length,
      isOtherPort,
    })
    return backoffDelayMs(policy, failures, Math.random)
  }

  #noteFailure(error: unknown): void {
    this.#failedHandshakes = isHandshakeFailure(error) ? this.#failedHandshakes + 1 : 0
    const { hasPreSharedKey, logger } = this.#options
    const place = { address: this.address, hasPreSharedKey, failedHandshakes: this.#failedHandshakes }
    const { text, reason, remedy, isLoud } = explainFailure(error, place)
    this.#lastError = reason
    if (error instanceof SameServerError) return
    const now = performance.now()
    const key = `${text}: ${reason}`
    if (key === this.#lastLogged.text && now - this.#lastLogged.at < repeatLogMs) return
    this.#lastLogged = { text: key, at: now }
    const fields = { address: this.address.text, error, ...(remedy === undefined ? {} : { remedy }) }
    if (isLoud) logger.error(fields, text)
    else logger.warn(fields, text)
  }
}

async function connectionLost(connection: PeerConnection): Promise<never> {
  await connection.whenClosed()
  const why = connection.endedFor === undefined ? '' : `: ${connection.endedFor.message}`
  throw new Error(`the connection to the relay is lost${why}`)
}

function hostOf({ multiaddress }: ServerAddress): string {
  return socketAddressOf(multiaddress).host
}

async function openDirectory(connection: PeerConnection, signal: AbortSignal): Promise<ByteStream> {
  using limit = new TimeLimit(connectTimeoutMs, signal)
  return await connection.openStream(directoryProtocol, limit.signal)
}
