import { type Catalog, createCatalog, type RememberedCatalog } from '../catalog/index.ts'
import { startDns } from '../dns/index.ts'
import { type Kernel, openKernel, watchAddresses } from '../linux/index.ts'
import { createDirectDialer, createNodeAwareDialer, type Dialer } from '../net/index.ts'
import { type ServiceProxy, type ServiceProxyOptions, startServiceProxy, tableName } from '../proxy/index.ts'
import { startTunnel, type Tunnel } from '../tunnel/index.ts'
import { startAgentControl } from './agent-control.ts'
import { startAgentReload } from './agent-reload.ts'
import { type Boot, boot, lockInstance, untilStopped } from './boot.ts'
import { type CatalogMemory, startCatalogMemory } from './catalog-memory.ts'
import type { CommandContext } from './command.ts'
import { agentKinds, startMetadataSource } from './metadata-source.ts'
import { startMetricsServer } from './metrics-server.ts'
import { noTunnel } from './no-tunnel.ts'
import { nodeAddressOf } from './node-address.ts'

/** The boot sequence of `edgemesh agent`; disposal stops in reverse order, also when a later start throws. */
export async function run(configFile: string, context: CommandContext): Promise<number> {
  const base = boot('agent', configFile, context)
  const { config, logger, metrics, signal } = base
  const { edgeDNS, edgeProxy, edgeTunnel } = config.modules
  const { bridgeDeviceName, bridgeDeviceIP } = config.commonConfig
  await using running = new AsyncDisposableStack()
  running.use(base.serviceManager)
  running.use(await lockInstance(base))

  const kernel = running.use(
    await openKernel({ table: tableName, deviceName: bridgeDeviceName }, base.loggerOf('linux')),
  )
  const catalog = running.use(createCatalog({ onError: (error) => logger.error({ error }, 'snapshot not taken') }))
  const memory = await beginMemory(running, base, catalog)
  const source = running.use(await startMetadataSource(base, context, catalog, agentKinds))

  const local = createDirectDialer()
  const tunnel = edgeTunnel.enable ? await beginTunnel(running, base, kernel, catalog, local) : undefined
  const dialer = createNodeAwareDialer(config.nodeName, local, tunnel?.dialer ?? noTunnel)

  // A node that cannot hold the rules shall not be left with a device.
  if (edgeProxy.enable) await kernel.applier.probe(signal)
  // The device before DNS, which listens on its address.
  const { syntheticRange } = edgeProxy
  await kernel.network.ensureDevice({ name: bridgeDeviceName, address: bridgeDeviceIP, syntheticRange }, signal)
  const dnsLogger = base.loggerOf('dns')
  const ownAddresses = () => [bridgeDeviceIP]
  const dns = edgeDNS.enable
    ? running.use(
        await startDns({ config: edgeDNS, address: bridgeDeviceIP, catalog, logger: dnsLogger, metrics, ownAddresses }),
      )
    : undefined
  const { excludedAddresses } = running.use(startAgentReload(base, context.env, tunnel))
  const proxied = { kernel, catalog, dialer, excludedAddresses }
  const proxy = edgeProxy.enable ? running.use(await beginProxy(base, proxied)) : undefined
  const metricsServer = running.use(startMetricsServer(base))
  running.use(
    await startAgentControl(base, context.build, { catalog, memory, source, dns, proxy, tunnel, metricsServer }),
  )

  logger.info({ component: 'agent' }, 'agent ready')
  await untilStopped(base)
  logger.info({ component: 'agent' }, 'agent stopping')
  const drained = AbortSignal.timeout(edgeProxy.drainTimeoutMs)
  await Promise.all([proxy?.drain(drained), tunnel?.drain(drained)])
  return 0
}

/** A folder of manifests is on disk itself: a second copy could only contradict it. */
async function beginMemory(
  running: AsyncDisposableStack,
  { config, loggerOf }: Boot<'agent'>,
  catalog: RememberedCatalog,
): Promise<CatalogMemory | undefined> {
  if (config.kubeAPIConfig.manifests !== '') return undefined
  return running.use(await startCatalogMemory({ catalog, stateDir: config.stateDir, logger: loggerOf('catalog') }))
}

async function beginTunnel(
  running: AsyncDisposableStack,
  base: Boot<'agent'>,
  kernel: Kernel,
  catalog: Catalog,
  local: Dialer,
): Promise<Tunnel> {
  const { config, metrics, health, signal } = base
  const addresses = running.use(await watchAddresses(kernel.network, signal))
  const tunnel = await startTunnel({
    config: config.modules.edgeTunnel,
    nodeName: config.nodeName,
    stateDir: config.stateDir,
    catalog,
    localDialer: local,
    nodeAddress: () =>
      nodeAddressOf(catalog.current.nodes.get(config.nodeName), addresses.current, config.commonConfig.bridgeDeviceIP),
    forbiddenNetworks: [config.modules.edgeProxy.syntheticRange],
    interfaceAddresses: () => addresses.current,
    logger: base.loggerOf('tunnel'),
    metrics,
    health,
    signal,
  })
  return running.use(tunnel)
}

async function beginProxy(
  base: Boot<'agent'>,
  parts: Pick<ServiceProxyOptions, 'kernel' | 'catalog' | 'dialer' | 'excludedAddresses'>,
): Promise<ServiceProxy> {
  const { config, metrics, health } = base
  const { edgeDNS, edgeProxy } = config.modules
  return await startServiceProxy({
    config: edgeProxy,
    common: config.commonConfig,
    nodeName: config.nodeName,
    dnsPort: edgeDNS.enable ? edgeDNS.listenPort : undefined,
    ...parts,
    logger: base.loggerOf('proxy'),
    metrics,
    health,
  })
}
