import { TimeLimit } from '../../runtime/index.ts'
import type { PeerConnection } from './peer-connection.ts'

/** What is done about connections on which nothing is heard. */
export interface SilencePolicy {
  /** After this long the peer is asked for a sign of life; absent: the peer is the one who asks. */
  readonly probeAfterMs?: number
  /** After this long the connection is given up. */
  readonly limitMs: number
}

/** What watching needs. */
export interface SilenceWatchOptions {
  readonly policy: SilencePolicy
  readonly connections: () => readonly PeerConnection[]
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
}

const tickMs = 1000
const pingProtocol = '/ipfs/ping/1.0.0'

/**
 * Gives up connections to peers that vanished without a word. Whatever comes from a peer is a sign of life: an answer
 * to a probe may wait for a long time behind the bytes that fill a slow line, and such a line is not dead.
 */
export function watchSilence({
  policy,
  connections,
  nowMs = () => performance.now(),
}: SilenceWatchOptions): Disposable {
  const probing = new WeakSet<PeerConnection>()
  let lastTickMs = nowMs()
  let awakeSinceMs = lastTickMs
  const timer = setInterval(() => {
    const now = nowMs()
    // This process stood still, as in a suspended machine; what has come meanwhile is not read yet.
    if (now - lastTickMs > 3 * tickMs) awakeSinceMs = now
    lastTickMs = now
    for (const connection of connections()) {
      const silentMs = now - Math.max(connection.lastHeardMs, awakeSinceMs)
      if (silentMs >= policy.limitMs) connection.abort(new Error(`nothing was heard for ${policy.limitMs / 1000} s`))
      else if (silentMs >= (policy.probeAfterMs ?? Number.POSITIVE_INFINITY)) probe(connection)
    }
  }, tickMs)
  return { [Symbol.dispose]: () => clearInterval(timer) }

  function probe(connection: PeerConnection): void {
    if (probing.has(connection)) return
    probing.add(connection)
    void exchange(connection, policy.limitMs).finally(() => probing.delete(connection))
  }
}

/** To agree on the protocol the peer must answer, and that is all we want; a refusal is an answer too. */
async function exchange(connection: PeerConnection, timeoutMs: number): Promise<void> {
  using limit = new TimeLimit(timeoutMs)
  const stream = await connection.openStream(pingProtocol, limit.signal).catch(() => undefined)
  stream?.resume().end()
}
