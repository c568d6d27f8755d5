import type { TcpInspector } from '../../linux/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import { FullLines } from './full-lines.ts'
import { isDirect, type PeerConnection } from './peer-connection.ts'

/** How long a connection may be silent. */
export interface Patience {
  /** After this long the peer is asked for a sign of life; absent: never. */
  readonly probeAfterMs?: number
  /** After this long the connection is given up. */
  readonly limitMs: number
}

/** What is done about connections on which nothing is heard, by what they are used for. */
export interface SilencePolicy {
  /** Nothing is open on it. */
  readonly idle: Patience
  /** It leads to a relay through which others reach us. */
  readonly kept: Patience
  /** Others reach the peer through us; it asks for our signs of life. */
  readonly served: Patience
  /** Flows are open on it, or on one that runs through it. A flow outlives a pause of the network. */
  readonly busy: Patience
  /** Somebody waits for it, and no flow would be lost with it. */
  readonly waiting: Patience
  /** It leads to a relay, and what was sent there or through it has no answer, though others are heard or nothing is lost. */
  readonly relaying: Patience
}

const noEnd: Patience = { limitMs: Number.POSITIVE_INFINITY }

/**
 * Idle neighbours are not asked: with a few dozen of them that would be most of what an idle node sends. TCP's own
 * probes find those that are gone.
 */
export const agentSilence: SilencePolicy = {
  idle: noEnd,
  kept: { probeAfterMs: 20_000, limitMs: 30_000 },
  served: { limitMs: 45_000 },
  busy: { probeAfterMs: 5_000, limitMs: 12_000 },
  waiting: { probeAfterMs: 1_000, limitMs: 4_500 },
  relaying: { probeAfterMs: 1_000, limitMs: 4_000 },
}

/** A server only listens: the agents ask. */
export const serverSilence: SilencePolicy = {
  idle: agentSilence.served,
  kept: agentSilence.served,
  served: agentSilence.served,
  busy: agentSilence.served,
  waiting: agentSilence.served,
  relaying: agentSilence.served,
}

/** What watching needs. */
export interface SilenceWatchOptions {
  readonly policy: SilencePolicy
  readonly connections: () => readonly PeerConnection[]
  /** What a connection to the peer is for while nothing is open on it. */
  readonly restingUseOf: (peerId: string) => 'idle' | 'kept' | 'served'
  /** Whether the peer's machine takes a new connection on the same way; rejects when nothing tells. */
  isReachable?(connection: PeerConnection, signal: AbortSignal): Promise<boolean>
  /** Tells what became of what was sent; default: nothing does. */
  readonly inspect?: () => Promise<TcpInspector>
  /** Told of each connection that is given up. */
  readonly onSilent?: (connection: PeerConnection) => void
  /** Told of each relay that would be given up were it clear that it is not our own line, and when it is heard again. */
  readonly onDoubt?: (connection: PeerConnection) => void
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
}

const tickMs = 500

/** A silent relay with flows gets a new connection after this long, and again while that is not answered. */
const knockAfterMs = 1000
const knockTimeoutMs = 1500

/** After a pause of the line a new connection is answered at once, an old one when TCP tries again. */
const catchUpMs = 3000

/** Others that are heard again after this much silence may have been away with our own line. */
const awayMs = 2500
const othersCatchUpMs = 2000

/** A relay lives that has passed something on within this time: links that take bytes say so every few seconds. */
const joinedAliveMs = 4500

/** Who is heard this long after a relay was asked in vain shows that the line is there. */
const elsewhereMs = 1000

/**
 * Gives up connections to peers that vanished without a word. Whatever comes from a peer is a sign of life: an answer
 * to a probe may wait for a long time behind the bytes that fill a slow line, and such a line is not dead.
 */
export function watchSilence(options: SilenceWatchOptions): Disposable {
  const { policy, connections, nowMs = () => performance.now() } = options
  const probing = new WeakSet<PeerConnection>()
  const door = new Door(options.isReachable, nowMs)
  const doubts = new Doubts(options.onDoubt)
  // What comes over links that the relay joins shows a relay that lives, behind a line that is full.
  const isAlive = (connection: PeerConnection) => nowMs() - connection.joinedHeardMs < joinedAliveMs
  const isLineThere = (connection: PeerConnection, askedMs: number) => {
    const sinceMs = door.answeredMs(connection)
    return sinceMs > askedMs && nowMs() - sinceMs >= catchUpMs && !isAlive(connection)
  }
  const hearing = createHearing(nowMs)
  const fullLines = new FullLines(options.inspect, nowMs)
  let lastTickMs = nowMs()
  let awakeSinceMs = lastTickMs
  const timer = setInterval(() => {
    const now = nowMs()
    // This process stood still, as in a suspended machine; what has come meanwhile is not read yet.
    if (now - lastTickMs > 6 * tickMs) awakeSinceMs = now
    lastTickMs = now
    const all = connections()
    const relayed = relayedOf(all)
    for (const connection of all) hearing.note(connection, now)
    for (const connection of all) look(connection, { all, relayed }, now)
    doubts.look()
  }, tickMs)
  const running = new DisposableStack()
  running.use(fullLines)
  running.defer(() => clearInterval(timer))
  return running

  function look(connection: PeerConnection, others: Others, now: number): void {
    const {
      use,
      sinceMs,
      doubtedSinceMs = now,
    } = useOf(connection, others, { ...options, isLineThere, isOtherHeard: hearing.isOtherHeard })
    const { probeAfterMs = Number.POSITIVE_INFINITY, limitMs } = policy[use]
    const excusedMs = Math.max(awakeSinceMs, fullLines.takenMs(connection))
    const silentMs = now - Math.max(sinceMs, excusedMs)
    if (silentMs >= limitMs) {
      connection.abort(new Error(`nothing was heard for ${Math.round((now - connection.lastHeardMs) / 1000)} s`))
      options.onSilent?.(connection)
      return
    }
    if (now - sinceMs >= probeAfterMs || now - doubtedSinceMs >= knockAfterMs) fullLines.look(connection)
    if (silentMs >= probeAfterMs) probe(connection, limitMs)
    const doubtMs = now - Math.max(doubtedSinceMs, excusedMs)
    if (doubtMs >= knockAfterMs) door.knock(connection)
    if (doubtMs >= policy.relaying.limitMs && !isAlive(connection)) doubts.add(connection)
  }

  function probe(connection: PeerConnection, limitMs: number): void {
    if (probing.has(connection)) return
    probing.add(connection)
    void ask(connection, limitMs).finally(() => probing.delete(connection))
  }
}

/** A machine that answers while its relay does not shows that it is the relay that is silent, not our own line. */
class Door {
  readonly #isReachable: SilenceWatchOptions['isReachable']
  readonly #nowMs: () => number
  readonly #knocking = new WeakSet<PeerConnection>()
  readonly #answeredMs = new WeakMap<PeerConnection, number>()

  constructor(isReachable: SilenceWatchOptions['isReachable'], nowMs: () => number) {
    this.#isReachable = isReachable
    this.#nowMs = nowMs
  }

  /** When the machine has last answered; 0 if it has not. */
  answeredMs(connection: PeerConnection): number {
    return this.#answeredMs.get(connection) ?? 0
  }

  knock(connection: PeerConnection): void {
    if (this.#isReachable === undefined || this.#knocking.has(connection)) return
    // Once it was answered, what counts is how long the silence goes on.
    if (this.answeredMs(connection) > connection.lastHeardMs) return
    this.#knocking.add(connection)
    void isAnswered(this.#isReachable, connection).then((isThere) => {
      this.#knocking.delete(connection)
      if (isThere) this.#answeredMs.set(connection, this.#nowMs())
    })
  }
}

/** Relays of which nothing is heard, until something is. */
class Doubts {
  readonly #tell: (connection: PeerConnection) => void
  readonly #doubted = new Set<PeerConnection>()

  constructor(tell: (connection: PeerConnection) => void = () => {}) {
    this.#tell = tell
  }

  add(connection: PeerConnection): void {
    if (connection.isDoubted) return
    connection.noteDoubted()
    this.#doubted.add(connection)
    this.#tell(connection)
  }

  /** Tells of those that are heard again. */
  look(): void {
    for (const connection of this.#doubted) {
      if (connection.isDoubted && connection.isOpen) continue
      this.#doubted.delete(connection)
      if (connection.isOpen) this.#tell(connection)
    }
  }
}

/** All connections, and those that run through relays, by the relay: so that a look at each of thousands is short. */
interface Others {
  readonly all: readonly PeerConnection[]
  readonly relayed: ReadonlyMap<string, readonly PeerConnection[]>
}

/** Remembers since when connections are heard without a long pause. */
function createHearing(nowMs: () => number) {
  const heard = new WeakMap<PeerConnection, { readonly lastMs: number; readonly sinceMs: number }>()
  return {
    note(connection: PeerConnection, now: number): void {
      const { lastHeardMs } = connection
      const before = heard.get(connection)
      const isPause = before !== undefined && lastHeardMs - before.lastMs > awayMs
      heard.set(connection, { lastMs: lastHeardMs, sinceMs: isPause ? now : (before?.sinceMs ?? 0) })
    },
    /** Whether others are heard later than that, and not only just again. */
    isOtherHeard: (all: readonly PeerConnection[], peerId: string, sinceMs: number): boolean =>
      all.some(
        (other) =>
          isDirect(other) &&
          other.peerId !== peerId &&
          other.lastHeardMs > sinceMs &&
          nowMs() - (heard.get(other)?.sinceMs ?? 0) >= othersCatchUpMs,
      ),
  }
}

/** What tells a silent relay from our own line being away. */
interface Evidence {
  isLineThere(of: PeerConnection, sinceMs: number): boolean
  isOtherHeard(all: readonly PeerConnection[], peerId: string, sinceMs: number): boolean
}

function relayedOf(all: readonly PeerConnection[]): Others['relayed'] {
  const relayed = new Map<string, PeerConnection[]>()
  for (const connection of all) {
    const { relayPeerId } = connection
    if (relayPeerId === undefined) continue
    const others = relayed.get(relayPeerId)
    if (others === undefined) relayed.set(relayPeerId, [connection])
    else others.push(connection)
  }
  return relayed
}

/**
 * What a connection is used for, and since when that has met with silence; and since when it is in doubt whether the peer
 * is silent or our own line.
 */
function useOf(
  connection: PeerConnection,
  { all, relayed }: Others,
  { restingUseOf, isLineThere, isOtherHeard }: SilenceWatchOptions & Evidence,
): { readonly use: keyof SilencePolicy; readonly sinceMs: number; readonly doubtedSinceMs?: number } {
  const { lastHeardMs, peerId } = connection
  const users = [connection, ...(relayed.get(peerId) ?? [])]
  const restingUse = restingUseOf(peerId)
  const sinceMs = longestWaitOf(users, lastHeardMs)
  const isBusy = users.some((user) => user.isBusy)
  // Flows on it would be lost for nothing when it is our own line that is away.
  const mayEnd = (askedMs: number) =>
    !isBusy || isOtherHeard(all, peerId, askedMs + elsewhereMs) || isLineThere(connection, askedMs)
  if (sinceMs !== undefined && restingUse === 'kept') {
    if (mayEnd(sinceMs)) return { use: 'relaying', sinceMs }
    return { use: 'busy', sinceMs: lastHeardMs, doubtedSinceMs: sinceMs }
  }
  if (isBusy) return { use: 'busy', sinceMs: lastHeardMs }
  if (sinceMs !== undefined) return { use: 'waiting', sinceMs }
  return { use: restingUse, sinceMs: lastHeardMs }
}

/** Since when something that was sent on the connection, or on those that run through it, has no answer. */
export function waitsSinceMs(connection: PeerConnection, all: readonly PeerConnection[]): number | undefined {
  const users = [connection, ...all.filter(({ relayPeerId }) => relayPeerId === connection.peerId)]
  return longestWaitOf(users, connection.lastHeardMs)
}

function longestWaitOf(users: readonly PeerConnection[], lastHeardMs: number): number | undefined {
  const asked = users.flatMap(({ askedSinceMs }) => (askedSinceMs > lastHeardMs ? [askedSinceMs] : []))
  return asked.length === 0 ? undefined : Math.min(...asked)
}

/** A refusal is an answer too: whatever comes counts where it is heard. */
async function ask(connection: PeerConnection, timeoutMs: number): Promise<void> {
  using limit = new TimeLimit(timeoutMs)
  await connection.probe(limit.signal).catch(() => {})
}

async function isAnswered(
  isReachable: NonNullable<SilenceWatchOptions['isReachable']>,
  connection: PeerConnection,
): Promise<boolean> {
  using limit = new TimeLimit(knockTimeoutMs)
  return await isReachable(connection, limit.signal).catch(() => false)
}
