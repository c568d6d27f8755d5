import type { ConnectionGater, MultiaddrConnection } from '@libp2p/interface'
import type { Logger } from '../../observability/index.ts'
import { preSharedKeyRemedy } from '../identity/pre-shared-key.ts'
import { addressOf } from './connection-limits.ts'

/** We end a connection, and with it the handshakes of others that come over it. */
export class LinkEndedError extends Error {
  override readonly name = 'LinkEndedError'
}

/** One line per remote address in this time, so that a node with the wrong key does not fill the log. */
const quietMs = 60_000

/** More addresses than this at once are not told apart. */
const maxRemembered = 1000

/** A node that dies in the middle of a handshake breaks one; one with another key breaks every one. */
const failuresInARow = 2

interface Remote {
  failures: number
  loggedAt: number
}

/**
 * The far end of a connection through a relay has lost patience, as with a node that stood still: to be joined by the relay, both
 * ends must have its key.
 */
function wasGivenUp({ name }: Error): boolean {
  return name === 'StreamResetError'
}

/**
 * Watches inbound connections between TCP and the end of the handshake. With a pre-shared key, handshakes that break
 * on our side one after the other almost always mean that the other side has another key: all it sends is noise to us.
 */
export function createHandshakeWatch(options: {
  readonly logger: Logger
  readonly hasPreSharedKey: boolean
}): ConnectionGater {
  const encrypted = new WeakSet<MultiaddrConnection>()
  const remotes = new Map<string, Remote>()
  return {
    denyDialMultiaddr: () => false,
    denyInboundConnection(connection) {
      if (!options.hasPreSharedKey) return false
      connection.addEventListener('close', ({ error }) => {
        if (error === undefined || error instanceof LinkEndedError || wasGivenUp(error)) return
        if (!encrypted.has(connection)) noteFailure(connection.remoteAddr.toString(), error)
      })
      return false
    },
    denyInboundEncryptedConnection(_peerId, connection) {
      encrypted.add(connection)
      remotes.delete(addressOf(connection.remoteAddr.toString()))
      return false
    },
  }

  function noteFailure(text: string, error: Error): void {
    const address = addressOf(text)
    if (remotes.size >= maxRemembered) remotes.clear()
    const remote = remotes.get(address) ?? { failures: 0, loggedAt: Number.NEGATIVE_INFINITY }
    remotes.set(address, remote)
    remote.failures += 1
    const now = performance.now()
    if (remote.failures < failuresInARow || now - remote.loggedAt < quietMs) return
    remote.loggedAt = now
    options.logger.warn(
      { address: text, error, remedy: preSharedKeyRemedy },
      'inbound handshake failed: pre-shared key mismatch likely',
    )
  }
}
