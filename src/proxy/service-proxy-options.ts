import type { Catalog } from '../catalog/index.ts'
import type { CommonConfig } from '../linux/config.ts'
import type { ElementWay, Kernel } from '../linux/index.ts'
import type { Endpoint, Service } from '../model/index.ts'
import type { ByteStream, DatagramDialer, Dialer } from '../net/index.ts'
import type { Health, Logger, Metrics } from '../observability/index.ts'
import type { ProxyConfig } from './config.ts'
import type { KernelRules } from './kernel/kernel-rules.ts'
import type { NodeReach, ReachPeers } from './reach/reachability.ts'
import type { startUserspaceProxy } from './userspace/userspace-proxy.ts'

/** What the proxy needs. The kernel stays the caller's. */
export interface ServiceProxyOptions {
  readonly config: ProxyConfig
  readonly common: Pick<CommonConfig, 'bridgeDeviceName' | 'bridgeDeviceIP'>
  readonly nodeName: string
  /** Port of cluster DNS on the bridge address; absent when this node does not answer DNS. */
  readonly dnsPort?: number | undefined
  /** Addresses never intercepted: our own API server, metaServer, servers and relays. The same set until they change. */
  readonly excludedAddresses?: () => ReadonlySet<string>
  readonly catalog: Catalog
  readonly dialer: Dialer
  /** Absent where datagrams are not carried in userspace. */
  readonly datagramDialer?: DatagramDialer | undefined
  /** Other nodes, to find out which of them are reached without the tunnel; absent where there is no tunnel. */
  readonly peers?: ReachPeers | undefined
  readonly kernel: Kernel
  readonly rules: KernelRules
  readonly logger: Logger
  readonly metrics: Metrics
  readonly health: Health
  /** Replaced in tests. */
  readonly startUserspaceProxy?: typeof startUserspaceProxy
}

/** State of the proxy at one moment. */
export interface ServiceProxyStatus {
  /** What makes rules in the kernel, and why. */
  readonly rules: KernelRules['status']
  /** Ports of the userspace proxy. */
  readonly listenPorts: readonly number[]
  readonly servicePorts: number
  readonly refusedServicePorts: number
  readonly openConnections: number
  /** How a table of nftables was changed last: without a process of nft where that works. */
  readonly changesBy: ElementWay | undefined
  /** Firewall chains of others that hold our accepts. */
  readonly openedFirewallChains: readonly string[]
  /** How endpoints on other nodes are reached, and why so. */
  readonly reachability: { readonly mode: ProxyConfig['reachability']; readonly nodes: readonly NodeReach[] }
  /** Why the kernel is not as it should be, or who found the synthetic range full; absent when all is well. */
  readonly problem: string | undefined
}

/** Makes ClusterIPs work for this node and its pods, until disposal. */
export interface ServiceProxy extends AsyncDisposable {
  status(): ServiceProxyStatus
  /** Where clients of this node reach an endpoint of a headless Service; undefined when at the endpoint's own address. */
  endpointAddressOf(service: Service, endpoint: Endpoint): string | undefined
  /** Takes ownership of a flow by which a peer wants to find out whether it reaches endpoints here by itself. */
  answerPeer(stream: ByteStream): void
  /** Sends no new connections to the userspace proxy, then waits until its connections end or the signal aborts. */
  drain(signal: AbortSignal): Promise<void>
}
