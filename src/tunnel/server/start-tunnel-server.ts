import type { Logger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import { serveDirectory } from '../directory/serve-directory.ts'
import { createHost } from '../host/host.ts'
import type { KeyRing } from '../identity/key-ring.ts'
import { loadMembership } from '../identity/load-membership.ts'
import { serveObservations } from '../punch/observation.ts'
import { RecordBook } from '../records/record-book.ts'
import { serveSplices } from '../relay/splice-server.ts'
import type { TunnelServer, TunnelServerOptions } from '../tunnel.ts'

/** Pairs of nodes that the status shows, busiest first. */
const maxShownPairs = 32

/** Streams of one agent: one for each peer that it is relayed to, both ways, and the directory. */
const streamsPerAgent = 16_384

/** Starts the relay and the directory of the mesh; returns when it listens. */
export async function startTunnelServer(options: TunnelServerOptions): Promise<TunnelServer> {
  await using starting = new AsyncDisposableStack()
  using _listening = options.health.block('tunnel listens')
  const { config, stateDir, logger, metrics } = options
  const membership = await loadMembership({ stateDir, nodeName: options.nodeName, role: 'server' }, config, logger)
  const { keyRing } = membership
  const book = starting.use(await RecordBook.open({ stateDir, logger, metrics }))
  const host = starting.use(
    await createHost({
      ...membership,
      listenPort: config.listenPort,
      morePorts: config.morePorts,
      muxers: config.muxers,
      maxStreamsPerConnection: streamsPerAgent,
      isRelay: true,
      logger,
    }),
  )
  const directory = starting.use(await serveDirectory({ host, book, logger }))
  const splices = starting.use(await serveSplices({ host, logger, metrics }))
  starting.use(serveObservations(host))
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
    status() {
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
    },
    reload: async ({ psk }) => await keyRing?.set(psk),
    unpin: (name) => book.unpin(name),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

function followKeys(keyRing: KeyRing, logger: Logger): AsyncDisposable {
  const tasks = new TaskGroup((task, error) => logger.error({ task, error }, 'background task failed'))
  tasks.run('pre-shared keys', (signal) => keyRing.follow(logger, signal))
  return tasks
}
