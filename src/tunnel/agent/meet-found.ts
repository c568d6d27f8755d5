import type { Logger } from '../../observability/index.ts'
import type { TaskGroup } from '../../runtime/index.ts'
import type { TunnelConfig } from '../config.ts'
import type { Host } from '../host/host.ts'
import type { GoPeers } from '../legacy/go-peers.ts'
import { Rendezvous } from '../legacy/rendezvous.ts'
import type { ServerLink } from './server-link.ts'

/** Meets peers that are found in the LAN, until disposed, and those that relays know, until the tasks end. */
export function meetFound(parts: {
  readonly config: TunnelConfig
  readonly host: Host
  readonly goPeers: GoPeers
  /** Of which some relay. */
  readonly links: readonly ServerLink[]
  readonly tasks: TaskGroup
  readonly logger: Logger
}): Disposable {
  const { config, host, goPeers, links, tasks, logger } = parts
  const atRelays = new Rendezvous({
    host,
    rendezvous: config.rendezvous,
    relays: () => links.flatMap(({ isUp, peerId }) => (isUp && peerId !== undefined ? [peerId] : [])),
    onFound: (peer, relayPeerId) => goPeers.meetThrough(peer, relayPeerId),
    tasks,
    logger,
  })
  tasks.run('rendezvous', (signal) => atRelays.run(signal))
  return goPeers.meetFound()
}
