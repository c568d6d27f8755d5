import * as z from 'zod'

const loadBalancerFields = z.strictObject({
  consistentHash: z
    .strictObject({
      partitionCount: z
        .int()
        .positive()
        .default(100)
        .describe('Partitions of the consistent-hash ring, before replicationFactor cuts them finer.'),
      replicationFactor: z
        .int()
        .positive()
        .default(10)
        .describe('How many times finer the partitions are cut, so that shares are even.'),
      load: z.number().min(1).default(1.25).describe('How far above the mean the load of one backend may be.'),
    })
    .prefault({})
    .describe('Shape of the consistent-hash ring of rules that bring none.'),
  caller: goInternal('the caller is known'),
  nodeName: goInternal('the top-level nodeName counts'),
})

/** `loadBalancer`: shared by the proxy and the gateway. */
export const loadBalancerSchema = loadBalancerFields.prefault({}).describe('How backends are chosen.')

const proxyLoadBalancerSchema = loadBalancerFields
  .extend({
    locality: z
      .enum(['none', 'nearest'])
      .default('none')
      .describe(
        'With nearest, endpoints on this node are used as long as there are any, then those on nodes of the same LAN, then all others; topology hints and trafficDistribution of a Service come first. A DestinationRule decides for itself by trafficPolicy.loadBalancer.localityLbSetting.enabled.',
      ),
  })
  .prefault({})
  .describe('How backends are chosen.')

/** `modules.edgeProxy`: what makes ClusterIPs work on the node. */
export const proxySchema = z.strictObject({
  enable: z.boolean().default(false).describe('Intercept and carry traffic to ClusterIPs.'),
  serviceFilterMode: z
    .enum(['FilterIfLabelExists', 'FilterIfLabelDoesNotExists'])
    .default('FilterIfLabelExists')
    .describe(
      'Whether Services with the label service.edgemesh.kubeedge.io/service-proxy-name are left alone, or only they are handled.',
    ),
  syntheticRange: z
    .string()
    .default('169.254.64.0/19')
    .describe(
      'IPv4 range whose addresses name ServicePorts, and endpoints of headless Services elsewhere, inside the node; never routed outside. /8 to /30. At each of up to 8 listening ports the default has room for 6142 ServicePorts with endpoints on other nodes.',
    ),
  listenPort: z
    .int()
    .min(0)
    .max(65535)
    .default(0)
    .describe(
      'TCP port of the userspace proxy on the synthetic range; 0 picks a free one outside the ephemeral range. When all synthetic addresses are in use, the free ports after it are listened on as well.',
    ),
  clients: z
    .enum(['local', 'lan'])
    .default('local')
    .describe(
      'Who may use ClusterIPs through this node: it and its pods, or also LAN neighbours that route through it.',
    ),
  reachability: z
    .enum(['auto', 'direct', 'tunnel'])
    .default('auto')
    .describe(
      'How endpoints on other nodes are reached. tunnel: always through the tunnel. direct: all pod addresses are taken to be routable, as with a CNI plugin that spans all nodes. auto: directly where the node has confirmed, over that very route, that it is reached at the address of its endpoint; else through the tunnel.',
    ),
  hostRoutes: z
    .boolean()
    .default(false)
    .describe(
      'Route the pods of LAN neighbours (podCIDRs of their Nodes) to these, where the tunnel has met them in a network of this node and their networks clash with nothing; needs reachability auto or direct. The routes have protocol 96, and go with edgemesh cleanup.',
    ),
  kernel: z
    .enum(['auto', 'nftables', 'iptables'])
    .default('auto')
    .describe(
      'What rules are made with: auto tries nftables first, and iptables where nft or the kernel does not take the rules.',
    ),
  onStop: z
    .enum(['keep', 'remove'])
    .default('keep')
    .describe(
      'Whether kernel rules stay when the agent stops; with keep, connections to endpoints on this node live on.',
    ),
  interceptKubernetesService: z
    .boolean()
    .default(false)
    .describe('Also handle default/kubernetes, the address of the API server.'),
  balancing: z
    .enum(['round-robin', 'random'])
    .default('round-robin')
    .describe('How the userspace proxy picks a backend when no rule says otherwise.'),
  dialTimeoutMs: z
    .int()
    .min(100)
    .max(600_000)
    .default(5000)
    .describe('How long one attempt to reach a backend may take, in milliseconds.'),
  udpIdleTimeoutMs: z
    .int()
    .min(1_000)
    .max(86_400_000)
    .default(30_000)
    .describe('How long a UDP client without any datagram keeps its backend in the userspace proxy, in milliseconds.'),
  drainTimeoutMs: z
    .int()
    .min(0)
    .max(600_000)
    .default(5000)
    .describe('How long open connections may finish when the agent stops, in milliseconds.'),
  socks5Proxy: z
    .strictObject({
      enable: z.boolean().default(false).describe('SOCKS5 entry to nodes by name.'),
      listenPort: z
        .int()
        .min(1)
        .max(65535)
        .default(10800)
        .describe('TCP port of the SOCKS5 entry on the bridge address.'),
      nodeName: goInternal('the top-level nodeName counts'),
      namespace: goInternal('no namespace is needed'),
    })
    .prefault({})
    .describe('SOCKS5 entry to nodes by name; the other node lists the ports under edgeTunnel.allowNodePorts.'),
  loadBalancer: proxyLoadBalancerSchema,
  listenInterface: goInternal('the proxy listens on syntheticRange'),
})

/** Validated `modules.edgeProxy`. */
export type ProxyConfig = z.output<typeof proxySchema>

/** A key that the Go system writes for itself. */
function goInternal(reason: string) {
  return z.string().optional().describe('Internal value of the Go system.').meta({ ignored: reason })
}
