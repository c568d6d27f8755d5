import type { TunnelConfig } from '../config.ts'
import { deriveIdentity } from '../identity/derived-key.ts'

/** What the configuration says about who is who: `edgeTunnel.trust`, `.peers` and `.revoked`. */
export type AdmissionRules = Pick<TunnelConfig, 'trust' | 'peers' | 'revoked'>

/** Takes every name that the pre-shared key vouches for. */
export const openAdmission: AdmissionRules = { trust: 'psk', peers: {}, revoked: [] }

/** Names and the identities that they are bound to. */
export type Pins = ReadonlyMap<string, string>

/** Why a node is not who it says, or may not be here. */
export interface AdmissionRefusal {
  readonly kind: 'conflict' | 'refused'
  readonly reason: string
  readonly remedy: string
}

/** Rules in which revoked names stand for their identities as well, where identities follow from names. */
export async function admissionRulesOf({
  identity,
  trust,
  peers,
  revoked,
}: AdmissionRules & Pick<TunnelConfig, 'identity'>): Promise<AdmissionRules> {
  if (identity !== 'derived') return { trust, peers, revoked }
  const names = revoked.filter((entry) => !isIdentity(entry))
  const derived = await Promise.all(names.map(async (name) => (await deriveIdentity(name)).peerId))
  return { trust, peers, revoked: [...revoked, ...derived] }
}

/** Decides who is taken for whom. */
export class Admission {
  readonly #rules: AdmissionRules
  readonly #pins: Pins
  readonly #ownPeerId: string | undefined
  readonly #revokedNames: ReadonlySet<string>
  /** Identities that are shut out: those that are listed, and those that listed names were bound to. */
  readonly revoked: ReadonlySet<string>

  /** The pins may change later; the node itself, `ownPeerId`, is taken whatever the rules say. */
  constructor(rules: AdmissionRules, pins: Pins, ownPeerId?: string) {
    this.#rules = rules
    this.#pins = pins
    this.#ownPeerId = ownPeerId
    this.#revokedNames = new Set(rules.revoked.filter((entry) => !isIdentity(entry)))
    const owners = [...this.#revokedNames].map((name) => this.ownerOf(name))
    const all = [...rules.revoked.filter(isIdentity), ...owners].filter((identity) => identity !== undefined)
    this.revoked = new Set(all.filter((identity) => identity !== ownPeerId))
  }

  /** The identity that a name must have; undefined when the first one to claim it gets it. */
  ownerOf(name: string): string | undefined {
    const { peers } = this.#rules
    // A name is what a peer says: it may be that of something that every object has.
    return Object.hasOwn(peers, name) ? peers[name] : this.#pins.get(name)
  }

  /** True for a name that nobody may have. */
  isRevokedName(name: string): boolean {
    return this.#revokedNames.has(name)
  }

  /** Why this identity may not have that name; undefined when it may. */
  refusalOf(name: string, peerId: string): AdmissionRefusal | undefined {
    if (peerId === this.#ownPeerId) return undefined
    if (this.revoked.has(peerId) || this.isRevokedName(name)) {
      const remedy = 'take it off edgeTunnel.revoked to let it join'
      return { kind: 'refused', reason: `${name} (${peerId}) is revoked`, remedy }
    }
    const owner = this.ownerOf(name)
    if (owner !== undefined && owner !== peerId) return this.#conflict(name, owner, peerId)
    if (owner !== undefined || this.#rules.trust === 'psk') return undefined
    const reason = `the name ${name} is not known, and edgeTunnel.trust is pinned`
    return { kind: 'refused', reason, remedy: `to let it join, add ${name}: ${peerId} to edgeTunnel.peers` }
  }

  #conflict(name: string, owner: string, claimant: string): AdmissionRefusal {
    const isConfigured = Object.hasOwn(this.#rules.peers, name)
    return {
      kind: 'conflict',
      reason: `the name ${name} belongs to ${owner}, but ${claimant} claims it`,
      remedy: isConfigured
        ? `edgeTunnel.peers names the identity of ${name}: correct it, or find out who claims the name`
        : `if ${name} was installed anew, run "edgemesh unpin ${name}"; else find out who claims its name`,
    }
  }
}

/** No node name looks like it: names are lower case. */
function isIdentity(text: string): boolean {
  return /^[1-9A-HJ-NP-Za-km-z]{46,64}$/.test(text) && /[A-Z]/.test(text)
}

/**
 * Who a relay may join: nodes with a name. In a mesh of derived identities nodes of the Go system sign no records, so all
 * that are not revoked.
 */
export function mayRelayOf(
  book: { readonly revoked: ReadonlySet<string>; nameOf(peerId: string): string | undefined },
  { identity }: Pick<TunnelConfig, 'identity'>,
): (peerId: string) => boolean {
  return (peerId) => !book.revoked.has(peerId) && (identity === 'derived' || book.nameOf(peerId) !== undefined)
}
