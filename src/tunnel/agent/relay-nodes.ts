import type { TunnelConfig } from '../config.ts'
import { serverEntryOf } from '../host/server-address.ts'

/** The keys that say who serves and who relays; they may change while the tunnel runs. */
export type MeshServers = Pick<TunnelConfig, 'servers' | 'relayNodes'>

/** Who the servers are for one node: those that are configured, then the other agents that relay, at everyone's port. */
export function serverEntriesOf({ servers, relayNodes }: MeshServers, own: OwnPlace): string[] {
  const relays = relayNodes
    .filter(({ nodeName }) => nodeName !== own.nodeName)
    .flatMap(({ nodeName, advertiseAddress }) =>
      advertiseAddress.map((address) => serverEntryOf(address, own.listenPort, own.peerIds?.get(nodeName))),
    )
  return [...new Set([...servers, ...relays])]
}

/** True when the node itself relays for others. */
export function isRelayNode({ relayNodes }: MeshServers, { nodeName }: OwnPlace): boolean {
  return relayNodes.some((relay) => relay.nodeName === nodeName)
}

/** Names of other agents that relay and cannot be found, because no address is given. */
export function relaysWithoutAddress({ relayNodes }: MeshServers, { nodeName }: OwnPlace): string[] {
  return relayNodes
    .filter((relay) => relay.nodeName !== nodeName && relay.advertiseAddress.length === 0)
    .map((relay) => relay.nodeName)
}

/** This node among the others. */
export interface OwnPlace {
  readonly nodeName: string
  /** The port of all agents. */
  readonly listenPort: number
  /** Identities of relays by their names, where they are known beforehand. */
  readonly peerIds?: ReadonlyMap<string, string> | undefined
}
