import type { Logger } from '../../observability/index.ts'
import type { TunnelConfig } from '../config.ts'
import { deriveIdentity } from './derived-key.ts'
import { type Identity, loadFormerIdentity, loadIdentity } from './identity.ts'
import { KeyRing } from './key-ring.ts'

/** What makes a node a member of the mesh. */
export interface Membership {
  readonly identity: Identity
  /** Before a rotation; passes the name of the node on. */
  readonly formerIdentity?: Identity | undefined
  /** Absent for an open mesh. */
  readonly keyRing: KeyRing | undefined
}

/** Whose membership it is. */
export interface MembershipOwner {
  /** Holds `identity.key`, unless the identity is derived. */
  readonly stateDir: string
  readonly nodeName: string
  readonly role: 'agent' | 'gateway' | 'server'
}

/** Reads or derives the identity and reads the pre-shared keys, and warns when the mesh is open to all. */
export async function loadMembership(
  owner: MembershipOwner,
  { psk, identity }: Pick<TunnelConfig, 'psk' | 'identity'>,
  logger: Logger,
): Promise<Membership> {
  if (!psk.enable) {
    logger.warn(
      { remedy: 'set edgeTunnel.psk.enable' },
      'no pre-shared key: every host that reaches this port may join',
    )
  }
  const keyRing = psk.enable ? await KeyRing.open(psk) : undefined
  if (identity === 'random') {
    const formerIdentity = await loadFormerIdentity(owner.stateDir)
    return { identity: await loadIdentity(owner.stateDir), formerIdentity, keyRing }
  }
  logger.warn(
    { remedy: 'set edgeTunnel.identity to random on every node once no Go agent is left' },
    'the identity is derived from the node name: whoever holds the pre-shared key can pose as any node',
  )
  return { identity: await deriveIdentity(derivedNameOf(owner)), keyRing }
}

/** The name that a node's derived identity comes from. */
export function derivedNameOf({ nodeName, role }: Pick<MembershipOwner, 'nodeName' | 'role'>): string {
  return role === 'gateway' ? `${nodeName}-gateway` : nodeName
}
