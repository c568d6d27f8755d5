import { createLoggedTasks, type Logger } from '../../observability/index.ts'
import type { ServedDirectory } from '../directory/serve-directory.ts'
import { createHost, type Host } from '../host/host.ts'
import type { KeyRing } from '../identity/key-ring.ts'
import { loadMembership } from '../identity/load-membership.ts'
import { rendezvousOf } from '../legacy/rendezvous.ts'
import { admissionRulesOf, mayRelayOf, openAdmission } from '../records/admission.ts'
import { RecordBook } from '../records/record-book.ts'
import { createSpliceBook, serveRelay, spliceLimitsOf } from '../relay/serve-relay.ts'
import type { SpliceBook } from '../relay/splice-book.ts'
import type { TunnelServer, TunnelServerOptions, TunnelServerStatus } from '../tunnel.ts'

/** Pairs of nodes that the status shows, busiest first. */
const maxShownPairs = 32

/** Streams of one agent: one for each peer that it is relayed to, both ways, and the directory. */
const streamsPerAgent = 16_384

/** How long a revoked node may take to hear that it is one. */
const lastWordsMs = 3000

/** What the status is made of. */
interface ServerParts {
  readonly host: Host
  readonly book: RecordBook
  readonly directory: ServedDirectory
  readonly splices: SpliceBook
}

/** Starts the relay and the directory of the mesh; returns when it listens. */
export async function startTunnelServer(options: TunnelServerOptions): Promise<TunnelServer> {
  await using starting = new AsyncDisposableStack()
  using _listening = options.health.block('tunnel listens')
  const { config, stateDir, logger, metrics } = options
  const membership = await loadMembership({ stateDir, nodeName: options.nodeName, role: 'server' }, config, logger)
  const { keyRing } = membership
  const book = starting.use(
    await RecordBook.open({ stateDir, logger, metrics, admission: await admissionRulesOf(config) }),
  )
  const splices = createSpliceBook(config)
  splices.shutOut(book.revoked)
  const isKnown = mayRelayOf(book, config)
  const mayRelay = (peerId: string) => isKnown(peerId) && splices.refusalOf(peerId) === undefined
  const host = starting.use(
    await createHost({
      ...membership,
      listenPort: config.listenPort,
      morePorts: config.morePorts,
      muxers: config.muxers,
      maxStreamsPerConnection: streamsPerAgent,
      isRelay: true,
      mayRelay,
      relayMeter: splices,
      logger,
    }),
  )
  const rendezvous = rendezvousOf(config)
  const served = { host, book, splices, mayRelay, rendezvous, logger, metrics }
  const { directory } = starting.use(await serveRelay(served))
  starting.use(endRevoked(host, book))
  if (keyRing !== undefined) starting.use(followKeys(keyRing, logger))
  await host.listen()
  logger.info({ peer: host.peerId, address: host.listening().join(' ') }, 'server listens')
  metrics.observe('relay_reservations', 'Nodes that can be reached through this relay', [], () => [
    { value: host.reservations() },
  ])
  metrics.observe('directory_connected_nodes', 'Nodes that exchange records with this server', [], () => [
    { value: directory.connected.length },
  ])
  const running = starting.move()
  return {
    status: () => statusOf({ host, book, directory, splices }),
    async reload({ psk, relay = config.relay, ...rules }) {
      if (psk !== undefined) await keyRing?.set(psk)
      splices.setLimits(spliceLimitsOf(relay))
      book.setAdmission(await admissionRulesOf({ ...openAdmission, ...rules, identity: config.identity }))
      splices.shutOut(book.revoked)
      for (const peerId of book.revoked) {
        for (const connection of host.connectionsTo(peerId)) connection.abort(revokedHere())
      }
    },
    unpin: (name) => book.unpin(name),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

function statusOf({ host, book, directory, splices }: ServerParts): TunnelServerStatus {
  const connected = new Set(directory.connected)
  return {
    peerId: host.peerId,
    listen: host.listening(),
    reservations: host.reservations(),
    relayed: splices.pairs.slice(0, maxShownPairs).map(({ peers, open, bytes }) => {
      return { nodes: peers.map((peerId) => book.nameOf(peerId) ?? peerId), open, bytes }
    }),
    records: book.records.map(({ record }) => {
      return { name: record.name, peerId: record.peerId, connected: connected.has(record.name) }
    }),
  }
}

/** A revoked node is not kept out, but told why by the directory; here it goes also when it does not listen. */
function endRevoked(host: Host, book: RecordBook): Disposable {
  return host.onConnection((event, connection) => {
    if (event !== 'open' || !book.revoked.has(connection.peerId)) return
    setTimeout(() => connection.abort(revokedHere()), lastWordsMs).unref()
  })
}

const revokedHere = () => new Error('this server has revoked the node')

function followKeys(keyRing: KeyRing, logger: Logger): AsyncDisposable {
  const tasks = createLoggedTasks(logger)
  tasks.run('pre-shared keys', (signal) => keyRing.follow(logger, signal))
  return tasks
}
