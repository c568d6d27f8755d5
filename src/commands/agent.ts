import { type Catalog, createCatalog } from '../catalog/index.ts'
import { type AddressOfEndpoint, type DnsServer, startDns } from '../dns/index.ts'
import { type AddressWatch, type Kernel, openKernel, watchAddresses } from '../linux/index.ts'
import {
  createDirectDatagramDialer,
  createDirectDialer,
  createNodeAwareDatagramDialer,
  createNodeAwareDialer,
  type Dialer,
} from '../net/index.ts'
import {
  chooseKernelRules,
  type HostRoutes,
  type ServiceProxy,
  type ServiceProxyOptions,
  type Socks5Proxy,
  startHostRoutes,
  startServiceProxy,
  startSocks5Proxy,
  tableName,
} from '../proxy/index.ts'
import { startTunnel, type Tunnel } from '../tunnel/index.ts'
import { startAgentControl } from './agent-control.ts'
import { startAgentReload } from './agent-reload.ts'
import { type Boot, boot, lockInstance, untilStopped } from './boot.ts'
import type { CommandContext } from './command.ts'
import { agentAwaits, agentKinds, startMetadataMemory, startMetadataSource } from './metadata-source.ts'
import { startMetricsServer } from './metrics-server.ts'
import { noTunnel } from './no-tunnel.ts'
import { nodeAddressOf } from './node-address.ts'
import { createInwardDialer, reachPeersOf } from './reach-peers.ts'

const removeTimeoutMs = 5_000

/** The boot sequence of `edgemesh agent`; disposal stops in reverse order, also when a later start throws. */
export async function run(configFile: string, context: CommandContext): Promise<number> {
  const base = boot('agent', configFile, context)
  const { config, logger, signal } = base
  const { edgeProxy } = config.modules
  const { bridgeDeviceName } = config.commonConfig
  await using running = new AsyncDisposableStack()
  running.use(base.serviceManager)
  running.use(await lockInstance(base))

  const kernel = running.use(
    await openKernel({ table: tableName, deviceName: bridgeDeviceName }, base.loggerOf('linux'), base.native),
  )
  const onError = (error: unknown) => logger.error({ error }, 'snapshot not taken')
  const catalog = running.use(createCatalog({ nodeName: config.nodeName, awaits: agentAwaits, onError }))
  const memory = running.use(await startMetadataMemory(base, catalog))
  const source = running.use(await startMetadataSource(base, context, catalog, agentKinds))

  let proxy: ServiceProxy | undefined
  const reach = await beginReach(running, base, kernel, catalog)
  const inward = { ...reach, local: createInwardDialer(reach.local, () => proxy) }
  const tunnel = await beginTunnel(running, base, context, inward)
  const remote = tunnel?.dialer ?? noTunnel
  const dialer = createNodeAwareDialer(config.nodeName, reach.local, remote)
  const datagramDialer = createNodeAwareDatagramDialer(config.nodeName, createDirectDatagramDialer(), remote)

  // A node that cannot hold the rules shall not be left with a device.
  const rules = edgeProxy.enable ? await chooseKernelRules(kernel, edgeProxy.kernel, base, signal) : undefined
  // The device before DNS, which listens on its address.
  await using unlessReady = await beginDevice(base, kernel)
  const dns = await beginDns(running, base, catalog, (service, endpoint) => proxy?.endpointAddressOf(service, endpoint))
  const { excludedAddresses } = running.use(startAgentReload(base, context.env, tunnel))
  const peers = tunnel && reachPeersOf(tunnel)
  const proxied = { kernel, catalog, dialer, datagramDialer, peers, excludedAddresses }
  // Half of the pages that the start has touched are of no more use; the first rules take the most memory there ever is.
  base.native?.releaseMemory()
  proxy = rules && running.use(await beginProxy(base, { rules, ...proxied }))
  const hostRoutes = proxy && running.use(beginHostRoutes(base, proxied))
  const socks5 = await beginSocks5(running, base, reach, dialer)
  const metricsServer = running.use(startMetricsServer(base))
  const parts = { catalog, memory, source, dns, proxy, hostRoutes, tunnel, metricsServer }
  running.use(await startAgentControl(base, context.build, parts))

  unlessReady.move()
  logger.info({ component: 'agent' }, 'agent ready')
  await untilStopped(base)
  logger.info({ component: 'agent' }, 'agent stopping')
  const drained = AbortSignal.timeout(edgeProxy.drainTimeoutMs)
  await Promise.all([proxy?.drain(drained), socks5?.drain(drained), tunnel?.drain(drained)])
  return 0
}

/** Makes the device; disposal removes it again if it was not there before. */
async function beginDevice({ config, signal }: Boot<'agent'>, { network }: Kernel): Promise<AsyncDisposableStack> {
  const { bridgeDeviceName: name, bridgeDeviceIP: address } = config.commonConfig
  const undo = new AsyncDisposableStack()
  const { syntheticRange } = config.modules.edgeProxy
  const isNew = await network.ensureDevice({ name, address, syntheticRange }, signal)
  if (isNew) undo.defer(() => network.removeDevice(name, AbortSignal.timeout(removeTimeoutMs)))
  return undo
}

async function beginDns(
  running: AsyncDisposableStack,
  { config, loggerOf, metrics }: Boot<'agent'>,
  catalog: Catalog,
  addressOfEndpoint: AddressOfEndpoint,
): Promise<DnsServer | undefined> {
  const { edgeDNS } = config.modules
  if (!edgeDNS.enable) return undefined
  const address = config.commonConfig.bridgeDeviceIP
  const named = { catalog, ownAddresses: () => [address], addressOfEndpoint }
  return running.use(await startDns({ config: edgeDNS, address, ...named, logger: loggerOf('dns'), metrics }))
}

/** What parts that dial or are dialled for others need. */
interface Reach {
  readonly catalog: Catalog
  /** Dials from this node's own network stack. */
  readonly local: Dialer
  readonly addresses: AddressWatch
  /** Where ports of this node itself are dialled. */
  readonly nodeAddress: () => string
}

async function beginReach(
  running: AsyncDisposableStack,
  { config, signal }: Boot<'agent'>,
  kernel: Kernel,
  catalog: Catalog,
): Promise<Reach> {
  const addresses = running.use(await watchAddresses(kernel.network, signal))
  const ownNode = () => catalog.current.nodes.get(config.nodeName)
  const nodeAddress = () => nodeAddressOf(ownNode(), addresses.current, config.commonConfig.bridgeDeviceIP)
  return { catalog, local: createDirectDialer(), addresses, nodeAddress }
}

async function beginTunnel(
  running: AsyncDisposableStack,
  base: Boot<'agent'>,
  { env }: CommandContext,
  { catalog, local, addresses, nodeAddress }: Reach,
): Promise<Tunnel | undefined> {
  const { config, metrics, health, signal } = base
  if (!config.modules.edgeTunnel.enable) return undefined
  const tunnel = await startTunnel({
    config: config.modules.edgeTunnel,
    nodeName: config.nodeName,
    stateDir: config.stateDir,
    env,
    catalog,
    localDialer: local,
    nodeAddress,
    forbiddenNetworks: [config.modules.edgeProxy.syntheticRange],
    interfaceAddresses: () => addresses.current,
    defaultRoutes: () => addresses.defaultRoutes,
    defaultGateways: () => addresses.defaultGateways,
    logger: base.loggerOf('tunnel'),
    metrics,
    health,
    signal,
  })
  return running.use(tunnel)
}

async function beginSocks5(
  running: AsyncDisposableStack,
  base: Boot<'agent'>,
  { catalog, nodeAddress }: Reach,
  dialer: Dialer,
): Promise<Socks5Proxy | undefined> {
  const { config, metrics } = base
  const { edgeProxy, edgeTunnel } = config.modules
  if (!edgeProxy.enable || !edgeProxy.socks5Proxy.enable) return undefined
  const socks5 = await startSocks5Proxy({
    config: edgeProxy,
    address: config.commonConfig.bridgeDeviceIP,
    nodeName: config.nodeName,
    allowNodePorts: edgeTunnel.allowNodePorts,
    catalog,
    dialer,
    nodeAddress,
    logger: base.loggerOf('socks5'),
    metrics,
  })
  return running.use(socks5)
}

function beginHostRoutes(
  { config, loggerOf }: Boot<'agent'>,
  parts: Pick<ServiceProxyOptions, 'kernel' | 'catalog' | 'peers' | 'excludedAddresses'>,
): HostRoutes {
  const known = { config: config.modules.edgeProxy, nodeName: config.nodeName, logger: loggerOf('proxy') }
  return startHostRoutes({ ...parts, ...known, network: parts.kernel.network })
}

async function beginProxy(
  base: Boot<'agent'>,
  parts: Pick<
    ServiceProxyOptions,
    'kernel' | 'rules' | 'catalog' | 'dialer' | 'datagramDialer' | 'peers' | 'excludedAddresses'
  >,
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
