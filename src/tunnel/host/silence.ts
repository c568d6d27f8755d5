import { TimeLimit } from '../../runtime/index.ts'
import type { PeerConnection } from './peer-connection.ts'

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
}

/** A server only listens: the agents ask. */
export const serverSilence: SilencePolicy = {
  idle: agentSilence.served,
  kept: agentSilence.served,
  served: agentSilence.served,
  busy: agentSilence.served,
  waiting: agentSilence.served,
}

/** What watching needs. */
export interface SilenceWatchOptions {
  readonly policy: SilencePolicy
  readonly connections: () => readonly PeerConnection[]
  /** What a connection to the peer is for while nothing is open on it. */
  readonly restingUseOf: (peerId: string) => 'idle' | 'kept' | 'served'
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
}

const tickMs = 500

/**
 * Gives up connections to peers that vanished without a word. Whatever comes from a peer is a sign of life: an answer
 * to a probe may wait for a long time behind the bytes that fill a slow line, and such a line is not dead.
 */
export function watchSilence(options: SilenceWatchOptions): Disposable {
  const { policy, connections, nowMs = () => performance.now() } = options
  const probing = new WeakSet<PeerConnection>()
  let lastTickMs = nowMs()
  let awakeSinceMs = lastTickMs
  const timer = setInterval(() => {
    const now = nowMs()
    // This process stood still, as in a suspended machine; what has come meanwhile is not read yet.
    if (now - lastTickMs > 6 * tickMs) awakeSinceMs = now
    lastTickMs = now
    const all = connections()
    for (const connection of all) look(connection, all, now)
  }, tickMs)
  return { [Symbol.dispose]: () => clearInterval(timer) }

  function look(connection: PeerConnection, all: readonly PeerConnection[], now: number): void {
    const { use, sinceMs } = useOf(connection, all, options)
    const { probeAfterMs = Number.POSITIVE_INFINITY, limitMs } = policy[use]
    const silentMs = now - Math.max(sinceMs, awakeSinceMs)
    if (silentMs >= limitMs) {
      connection.abort(new Error(`nothing was heard for ${Math.round((now - connection.lastHeardMs) / 1000)} s`))
    } else if (silentMs >= probeAfterMs) probe(connection, limitMs)
  }

  function probe(connection: PeerConnection, limitMs: number): void {
    if (probing.has(connection)) return
    probing.add(connection)
    void ask(connection, limitMs).finally(() => probing.delete(connection))
  }
}

/** What a connection is used for, and since when that has met with silence. */
function useOf(
  connection: PeerConnection,
  all: readonly PeerConnection[],
  { restingUseOf }: SilenceWatchOptions,
): { readonly use: keyof SilencePolicy; readonly sinceMs: number } {
  const { lastHeardMs, peerId } = connection
  const users = [connection, ...all.filter(({ relayPeerId }) => relayPeerId === peerId)]
  if (users.some(({ isBusy }) => isBusy)) return { use: 'busy', sinceMs: lastHeardMs }
  const asked = users.flatMap(({ askedSinceMs }) => (askedSinceMs > lastHeardMs ? [askedSinceMs] : []))
  if (asked.length > 0) return { use: 'waiting', sinceMs: Math.min(...asked) }
  return { use: restingUseOf(peerId), sinceMs: lastHeardMs }
}

/** A refusal is an answer too: whatever comes counts where it is heard. */
async function ask(connection: PeerConnection, timeoutMs: number): Promise<void> {
  using limit = new TimeLimit(timeoutMs)
  await connection.probe(limit.signal).catch(() => {})
}
