import type { ConnectionGater, MultiaddrConnection } from '@libp2p/interface'
import type { Logger } from '../../observability/index.ts'

/** One line per remote address in this time, so that a node with the wrong key does not fill the log. */
const quietMs = 60_000

/** More addresses than this at once are not told apart. */
const maxRemembered = 1000

/**
 * Watches inbound connections between TCP and the end of the handshake. With a pre-shared key, a handshake that breaks
 * on our side almost always means that the other side has another key: all it sends is noise to us.
 */
export function createHandshakeWatch(options: {
  readonly logger: Logger
  readonly hasPreSharedKey: boolean
}): ConnectionGater {
  const encrypted = new WeakSet<MultiaddrConnection>()
  const lastLogged = new Map<string, number>()
  return {
    denyDialMultiaddr: () => false,
    denyInboundConnection(connection) {
      if (!options.hasPreSharedKey) return false
      connection.addEventListener('close', ({ error }) => {
        const failedHere = error !== undefined && !encrypted.has(connection)
        if (failedHere) logOncePerAddress(connection.remoteAddr.toString(), error)
      })
      return false
    },
    denyInboundEncryptedConnection(_peerId, connection) {
      encrypted.add(connection)
      return false
    },
  }

  function logOncePerAddress(remote: string, error: Error): void {
    const address = remote.replace(/\/tcp\/.*/, '')
    const now = Date.now()
    if (now - (lastLogged.get(address) ?? 0) < quietMs) return
    if (lastLogged.size >= maxRemembered) lastLogged.clear()
    lastLogged.set(address, now)
    options.logger.warn(
      { address: remote, error, remedy: preSharedKeyRemedy },
      'inbound handshake failed: pre-shared key mismatch likely',
    )
  }
}

/** What to do about a mismatch, for the logs of both sides. */
export const preSharedKeyRemedy = 'compare "sha256sum" of the pre-shared key file on both nodes'
