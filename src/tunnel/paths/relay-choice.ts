import type { Attempt } from '../../runtime/index.ts'
import type { ServerAddress } from '../host/server-address.ts'
import type { ServerStatus } from '../tunnel.ts'

/** A server that may relay for us. */
export interface RelayLink {
  readonly address: ServerAddress
  /** Its identity once known. */
  readonly peerId: string | undefined
  /** It is connected, and heard of. */
  readonly isUp: boolean
  /** It is connected, but nothing is heard of it. */
  readonly isDoubted: boolean
  /** Last measured; undefined when it is not known. */
  readonly roundTripMs: number | undefined
  /** True when the node is connected to it too. */
  reaches(nodeName: string): boolean
  /** Why it relays nothing between us and the node, though it could. */
  refusalOf(nodeName: string): string | undefined
  status(): ServerStatus
}

/** A relay that was silent comes after all others for this long; by then it is given up, or has spoken. */
const silentMs = 15_000
const silentCostMs = 3_600_000
const unknownRoundTripMs = 10_000

/** What says nothing for this long, or for twice its round trip where that is more, is joined by another way. */
export const hedgeMs = 300

/** Round trips to a relay that connecting to a node through it takes, if the node is as far from it as we are. */
const roundTripsToConnect = 12

/** Which relay is the best now. */
export class RelayChoice {
  readonly #links: readonly RelayLink[]
  readonly #nowMs: () => number
  readonly #silentUntilMs = new Map<string, number>()

  /** The links may change at any time; `nowMs` never jumps. */
  constructor(links: readonly RelayLink[], nowMs: () => number = () => performance.now()) {
    this.#links = links
    this.#nowMs = nowMs
  }

  /** Relays through which the node can be reached now: nearest first, silent ones last. */
  reaching(nodeName: string): RelayLink[] {
    return this.#links
      .filter((link) => link.reaches(nodeName))
      .map((link) => ({ link, cost: this.costOf(link.peerId) }))
      .sort((left, right) => left.cost - right.cost)
      .map(({ link }) => link)
  }

  /** Why the node cannot be reached through any of them. */
  whyNot(nodeName: string): string {
    const refusals = this.#links.flatMap((link) => link.refusalOf(nodeName) ?? [])
    return refusals.length === 0 ? 'it is not connected to any of our servers' : refusals.join('; ')
  }

  /** Why none of them will reach the node; undefined as long as one may, also one that is not connected now. */
  finalRefusalOf(nodeName: string): string | undefined {
    const refusals = this.#links.map((link) => link.refusalOf(nodeName))
    return refusals.length === 0 || refusals.includes(undefined) ? undefined : refusals.join('; ')
  }

  /** Attempts to reach the node through each of them but one, for `firstOf`. */
  attempts<T>(nodeName: string, begin: (link: RelayLink) => Promise<T>, except?: string): Attempt<T>[] {
    return this.reaching(nodeName)
      .filter(({ peerId }) => peerId !== except || peerId === undefined)
      .map((link) => ({ begin: () => begin(link), patienceMs: this.patienceMs(link.peerId) }))
  }

  /** For comparison: the round trip to the relay, or much more. */
  costOf(relayPeerId: string | undefined): number {
    const roundTripMs = this.#links.find(({ peerId }) => peerId === relayPeerId)?.roundTripMs
    return (roundTripMs ?? unknownRoundTripMs) + (this.isSilent(relayPeerId) ? silentCostMs : 0)
  }

  /** How long a new connection through it may take before another relay is tried as well. */
  patienceMs(relayPeerId: string | undefined): number {
    const roundTripMs = this.#links.find(({ peerId }) => peerId === relayPeerId)?.roundTripMs ?? 0
    return Math.max(hedgeMs, roundTripsToConnect * roundTripMs)
  }

  /** How long a link to a node may take before a connection through a relay is made as well. */
  headStartMs(nodeName: string): number {
    return this.patienceMs(this.reaching(nodeName)[0]?.peerId)
  }

  /** Nothing is heard of it now: it, or our own line, is away. */
  isDoubted(relayPeerId: string | undefined): boolean {
    return this.#links.some((link) => link.isDoubted && link.peerId === relayPeerId)
  }

  /** Some relay said nothing, some time. */
  get hasSilent(): boolean {
    return this.#silentUntilMs.size > 0
  }

  /** It said nothing while another one answered, not long ago. */
  isSilent(relayPeerId: string | undefined): boolean {
    return (this.#silentUntilMs.get(relayPeerId ?? '') ?? 0) > this.#nowMs()
  }

  /** The node can be reached now through one that was not silent, other than this one. */
  hasOther(nodeName: string, relayPeerId: string): boolean {
    return this.#links.some((link) => {
      return link.isUp && link.peerId !== relayPeerId && !this.isSilent(link.peerId) && link.reaches(nodeName)
    })
  }

  noteSilent(relayPeerId: string): void {
    this.#silentUntilMs.set(relayPeerId, this.#nowMs() + silentMs)
  }

  /** What people know it by: its configured address. */
  nameOf(relayPeerId: string | undefined): string {
    const link = this.#links.find((candidate) => candidate.peerId === relayPeerId)
    return link?.address.text ?? relayPeerId ?? 'unknown'
  }

  /** The relay that is known by a name. */
  named(name: string): string | undefined {
    return this.#links.find(({ peerId }) => this.nameOf(peerId) === name)?.peerId
  }
}

/** Why no server is of use, for people. */
export function serversText(links: readonly RelayLink[]): string {
  if (links.length === 0) return 'no server is configured'
  const states = links.map((link) => `${link.address.text} (${link.status().lastError ?? 'connecting'})`)
  return `no server is connected: ${states.join(', ')}`
}
