import type { Logger } from '../../observability/index.ts'
import type { TunnelConfig } from '../config.ts'
import { type Identity, loadIdentity } from './identity.ts'
import { readPreSharedKey } from './pre-shared-key.ts'

/** What makes a node a member of the mesh. */
export interface Membership {
  readonly identity: Identity
  /** Absent for an open mesh. */
  readonly preSharedKey: Uint8Array | undefined
}

/** Reads the identity and the pre-shared key, and warns when the mesh is open to all. */
export async function loadMembership(
  stateDir: string,
  { psk }: Pick<TunnelConfig, 'psk'>,
  logger: Logger,
): Promise<Membership> {
  if (!psk.enable) {
    logger.warn(
      { remedy: 'set edgeTunnel.psk.enable' },
      'no pre-shared key: every host that reaches this port may join',
    )
  }
  const preSharedKey = psk.enable ? await readPreSharedKey(psk.path) : undefined
  return { identity: await loadIdentity(stateDir), preSharedKey }
}
