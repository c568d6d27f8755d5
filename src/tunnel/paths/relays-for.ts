import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import type { RelayChoice } from './relay-choice.ts'

/** A peer that a relay is sought for. */
export interface RelayedPeer {
  /** Undefined while no record tells it. */
  readonly name: string | undefined
  /** Relays of what stands to it already. */
  readonly standing: readonly (string | undefined)[]
}

/** A relay to which we are connected, and how long it may take before another one is tried as well. */
export interface RelayFor {
  readonly connection: PeerConnection
  readonly patienceMs: number
}

/** Relays that may join us to the peer, best first: those of what stands already, then the nearest; silent ones last. */
export function relaysFor(
  { name, standing }: RelayedPeer,
  {
    host,
    relays,
  }: {
    readonly host: Pick<Host, 'connectionsTo'>
    readonly relays: Pick<RelayChoice, 'reaching' | 'isSilent' | 'patienceMs'>
  },
): RelayFor[] {
  const reaching = name === undefined ? [] : relays.reaching(name).map(({ peerId }) => peerId)
  const known = [...new Set([...standing, ...reaching])].filter((relay) => relay !== undefined)
  const [silent, heard] = [
    known.filter((relay) => relays.isSilent(relay)),
    known.filter((relay) => !relays.isSilent(relay)),
  ]
  return [...heard, ...silent].flatMap((relay) => {
    const connection = host.connectionsTo(relay).find((each) => each.isOutbound && isDirect(each))
    return connection === undefined ? [] : [{ connection, patienceMs: relays.patienceMs(relay) }]
  })
}
