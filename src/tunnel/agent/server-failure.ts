import { ProxyError } from '../../net/index.ts'
import { describeError } from '../../observability/index.ts'
import { DirectoryRefusedError } from '../directory/directory-session.ts'
import type { ServerAddress } from '../host/server-address.ts'
import { preSharedKeyRemedy } from '../identity/pre-shared-key.ts'

/** The server at an address is not the one we know. */
export class ServerIdentityError extends Error {
  override readonly name = 'ServerIdentityError'
  readonly code = 'EDGEMESH_SERVER_IDENTITY'
}

/** What is known besides the error. */
export interface FailurePlace {
  readonly address: ServerAddress
  readonly hasPreSharedKey: boolean
  /** Handshakes that broke one after the other, this one included. */
  readonly failedHandshakes: number
}

/** A failure in words for people. */
export interface ExplainedFailure {
  /** For the log. */
  readonly text: string
  /** For the status, which has no fields beside it. */
  readonly reason: string
  readonly remedy?: string
  /** Somebody has to do something, or it stays as it is. */
  readonly isLoud?: boolean
}

const remedies: ReadonlyMap<string, string> = new Map([
  ...['ENOTFOUND', 'EAI_AGAIN'].map(
    (code) => [code, 'check the name in modules.edgeTunnel, and that this node can resolve it'] as const,
  ),
  ['ECONNREFUSED', 'start edgemesh there, or correct the port in modules.edgeTunnel'],
  ...['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'].map(
    (code) => [code, 'check the address in modules.edgeTunnel, the route to it and the firewalls on the way'] as const,
  ),
])

/** Says why a server is not connected, and what to do. */
export function explainFailure(error: unknown, place: FailurePlace): ExplainedFailure {
  const reason = describeError(error)
  if (error instanceof ServerIdentityError) {
    const { address } = place
    const remedy =
      address.peerId === undefined
        ? `restore its identity.key, or if it has a new identity on purpose, run "edgemesh unpin ${address.text}"; else somebody poses as it`
        : 'restore its identity.key, or correct /p2p/ in edgeTunnel.servers; else somebody poses as it'
    return { text: 'server refused: it has another identity than before', reason, remedy, isLoud: true }
  }
  if (error instanceof DirectoryRefusedError) {
    return { text: 'the server refuses the record of this node', reason, isLoud: true }
  }
  if (error instanceof ProxyError) return { text: 'server not connected', reason, remedy: error.remedy }
  // A server that is stopped in the middle of a handshake looks the same, once.
  if (place.hasPreSharedKey && place.failedHandshakes > 1) {
    const text = 'pre-shared key mismatch likely'
    return { text: `server handshake failed: ${text}`, reason: `${text}: ${reason}`, remedy: preSharedKeyRemedy }
  }
  const [, remedy] = [...remedies].find(([code]) => new RegExp(`\\b${code}\\b`).test(reason)) ?? []
  return { text: 'server not connected', reason, ...(remedy !== undefined && { remedy }) }
}
