import { type Catalog, createCatalog } from '../catalog/index.ts'
import { type Gateway, startGateway } from '../gateway/index.ts'
import { type AddressWatch, createNodeNetwork, watchAddresses } from '../linux/index.ts'
import { createDirectDialer, createNodeAwareDialer, type Dialer } from '../net/index.ts'
import { startTunnel, type Tunnel } from '../tunnel/index.ts'
import { memoryOf, metadataOf } from './agent-control.ts'
import { type Boot, boot, lockInstance, untilStopped } from './boot.ts'
import type { CommandContext } from './command.ts'
import { startControl } from './control.ts'
import { createLineWriter } from './line-writer.ts'
import { gatewayAwaits, gatewayKinds, startMetadataMemory, startMetadataSource } from './metadata-source.ts'
import { startMetricsServer } from './metrics-server.ts'
import { noTunnel } from './no-tunnel.ts'
import { headOf } from './status-document.ts'
import { membershipKeys, startConfigWatch } from './watch-config.ts'

/** The boot sequence of `edgemesh gateway`; disposal stops in reverse order, also when a later start throws. */
export async function run(configFile: string, context: CommandContext): Promise<number> {
  const base = boot('gateway', configFile, context)
  const { config, metrics, health, signal } = base
  const { edgeGateway, edgeTunnel } = config.modules
  const logger = base.loggerOf('gateway')
  await using running = new AsyncDisposableStack()
  running.use(base.serviceManager)
  running.use(await lockInstance(base))

  const network = running.use(await createNodeNetwork(base.loggerOf('linux')))
  const addresses = running.use(await watchAddresses(network, signal))
  const onError = (error: unknown) => logger.error({ error }, 'snapshot not taken')
  const catalog = running.use(createCatalog({ nodeName: config.nodeName, awaits: gatewayAwaits, onError }))
  const memory = running.use(await startMetadataMemory(base, catalog))
  const source = running.use(await startMetadataSource(base, context, catalog, gatewayKinds))

  const local = createDirectDialer()
  const tunnel = edgeTunnel.enable
    ? running.use(await beginTunnel(base, { env: context.env, catalog, local, addresses }))
    : undefined
  const dialer = createNodeAwareDialer(config.nodeName, local, tunnel?.dialer ?? noTunnel)
  const lines = running.use(createLineWriter(context.out))
  const gateway = edgeGateway.enable
    ? running.use(
        beginGateway(base, {
          catalog,
          dialer,
          addresses: () => addresses.current,
          writeLine: lines.write,
          writeReport: source.report?.bind(source),
        }),
      )
    : undefined

  const metricsServer = running.use(startMetricsServer(base))
  const status = () => {
    const scraped = metricsServer.status()
    return {
      ...headOf('gateway', base, context.build),
      metadata: { ...memoryOf(memory), ...metadataOf(catalog, source.status()) },
      ...(gateway !== undefined && { gateway: gateway.status() }),
      ...(tunnel !== undefined && { tunnel: tunnel.status() }),
      ...(scraped !== undefined && { metrics: scraped }),
    }
  }
  running.use(await startControl({ runtimeDir: config.runtimeDir, metrics, health, status, unpin: tunnel?.unpin }))
  if (tunnel !== undefined) running.use(followMembership(base, context, tunnel))

  logger.info({}, 'gateway ready')
  await untilStopped(base)
  logger.info({}, 'gateway stopping')
  await gateway?.drain(AbortSignal.timeout(edgeGateway.drainTimeoutMs))
  return 0
}

/** What the tunnel of a gateway needs. */
interface GatewayReach extends Pick<CommandContext, 'env'> {
  readonly catalog: Catalog
  readonly local: Dialer
  readonly addresses: AddressWatch
}

/** In the mesh a gateway has a name of its own, because an agent of the same node has the node's. */
async function beginTunnel(base: Boot<'gateway'>, { env, catalog, local, addresses }: GatewayReach): Promise<Tunnel> {
  const { config, metrics, health, signal } = base
  return await startTunnel({
    config: config.modules.edgeTunnel,
    nodeName: `${config.nodeName}-gateway`,
    role: 'gateway',
    stateDir: config.stateDir,
    env,
    catalog,
    localDialer: local,
    nodeAddress: () => '127.0.0.1',
    interfaceAddresses: () => addresses.current,
    defaultRoutes: () => addresses.defaultRoutes,
    defaultGateways: () => addresses.defaultGateways,
    logger: base.loggerOf('tunnel'),
    metrics,
    health,
    signal,
  })
}

/** Of a gateway's configuration only the membership of the mesh changes while it runs. */
function followMembership(
  { loaded, config, loggerOf }: Boot<'gateway'>,
  { env }: CommandContext,
  tunnel: Tunnel,
): AsyncDisposable {
  const { servers, relayNodes } = config.modules.edgeTunnel
  return startConfigWatch({
    loaded,
    env,
    reloadable: membershipKeys,
    onChange: ({ modules }) => tunnel.reload({ ...modules.edgeTunnel, servers, relayNodes }),
    logger: loggerOf('config'),
  })
}

function beginGateway(
  { config, loggerOf, metrics }: Boot<'gateway'>,
  parts: Pick<Parameters<typeof startGateway>[0], 'catalog' | 'dialer' | 'addresses' | 'writeLine' | 'writeReport'>,
): Gateway {
  const { edgeGateway } = config.modules
  return startGateway({
    config: edgeGateway,
    nodeName: config.nodeName,
    ...parts,
    logger: loggerOf('gateway'),
    metrics,
  })
}
