import type { Logger, Metrics } from '../../observability/index.ts'
import type { TunnelConfig } from '../config.ts'
import { type ServedDirectory, serveDirectory } from '../directory/serve-directory.ts'
import type { Host } from '../host/host.ts'
import { serveRendezvous } from '../legacy/serve-rendezvous.ts'
import { serveDialBacks } from '../nat/dial-back.ts'
import { serveObservations } from '../punch/observation.ts'
import type { RecordBook } from '../records/record-book.ts'
import { SpliceBook, type SpliceLimits, spliceLimits } from './splice-book.ts'
import { serveSplices } from './splice-server.ts'

/** What being a relay for others needs. */
export interface RelayOptions {
  readonly host: Host
  readonly book: RecordBook
  /** Counts what is relayed; the host tells it of its part. */
  readonly splices: SpliceBook
  /** Peers that may be joined to others. */
  readonly mayRelay: (peerId: string) => boolean
  /** Under which nodes of a mesh of derived identities find each other here; absent without such nodes. */
  readonly rendezvous?: string | undefined
  readonly logger: Logger
  readonly metrics: Metrics
}

/** A relay and directory at work. */
export interface ServedRelay extends AsyncDisposable {
  readonly directory: ServedDirectory
}

/** The book of a relay with the limits of `edgeTunnel.relay`. */
export function createSpliceBook({ relay }: Pick<TunnelConfig, 'relay'>): SpliceBook {
  return new SpliceBook({ ...spliceLimits, ...spliceLimitsOf(relay) })
}

/** The limits of `edgeTunnel.relay`. */
export function spliceLimitsOf(relay: TunnelConfig['relay']): Pick<SpliceLimits, 'perNode' | 'bytesPerNodeAndDay'> {
  return { perNode: relay.connectionsPerNode, bytesPerNodeAndDay: relay.bytesPerNodeAndDay }
}

/** Serves the directory, joins links, and tells agents how they are seen and who has used up what this relay carries. */
export async function serveRelay(options: RelayOptions): Promise<ServedRelay> {
  const { host, book, rendezvous, logger } = options
  await using starting = new AsyncDisposableStack()
  const directory = starting.use(await serveDirectory(options))
  const nameOf = (peerId: string) => book.nameOf(peerId) ?? peerId
  const onCapped = (capped: ReadonlyMap<string, string>) =>
    directory.setCapped(new Map([...capped].map(([peerId, reason]) => [nameOf(peerId), reason])))
  starting.use(await serveSplices({ ...options, nameOf, onCapped }))
  starting.use(serveObservations(host))
  starting.use(await serveDialBacks(host, logger))
  if (rendezvous !== undefined) starting.use(await serveRendezvous({ host, rendezvous, logger }))
  const running = starting.move()
  return { directory, [Symbol.asyncDispose]: () => running.disposeAsync() }
}
