import * as z from 'zod'

const hostPattern = '(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\])'
const portPattern = '(?:[1-9]\\d{0,3}|[1-5]\\d{4}|6[0-4]\\d{3}|65[0-4]\\d{2}|655[0-2]\\d|6553[0-5])'
const userPattern = '(?:[^\\s:@/?#%]|%[0-9A-Fa-f]{2})'
const proxyPattern = new RegExp(
  `^(?:environment|http://(?:${userPattern}+(?::${userPattern}*)?@)?${hostPattern}:${portPattern}/?)?$`,
)
const serverPattern = new RegExp(`^${hostPattern}(?::${portPattern})?(?:/p2p/[1-9A-HJ-NP-Za-km-z]{46,64})?$`)

/** An address without a port: IPv4, IPv6 or a DNS name. */
const addressSchema = z
  .string()
  .refine(isHost)
  .regex(/^(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+)$/)
  .meta({ expects: 'an IP address or host name without a port', examples: ['192.0.2.10'] })

/** How many streams peers may open. */
const limitSchema = z
  .strictObject({
    enable: z.boolean().default(true).describe('Limit streams.'),
    tunnelBaseStreamIn: z.int().positive().default(10240).describe('Inbound streams in total.'),
    tunnelBaseStreamOut: z.int().positive().default(10240).describe('Outbound streams in total.'),
    tunnelPeerBaseStreamIn: z.int().positive().default(1024).describe('Inbound streams of one peer.'),
    tunnelPeerBaseStreamOut: z.int().positive().default(1024).describe('Outbound streams to one peer.'),
  })
  .prefault({})
  .describe('How many streams peers may open. At a limit quiet UDP flows are ended in favour of new flows.')

/** What other nodes may reach of this node itself. */
const nodePortsSchema = z
  .array(z.int().min(1).max(65535))
  .default([])
  .describe('TCP ports of this node itself that other nodes may reach by its name (SOCKS5, ssh); none unless listed.')
  .meta({ expects: 'a port number', examples: [22] })

/** Where Prometheus may scrape. */
const metricSchema = z
  .strictObject({
    enable: z.boolean().default(false).describe('Serve Prometheus metrics over TCP.'),
    port: z.int().min(1).max(65535).default(9999).describe('TCP port of the metrics.'),
    address: z
      .string()
      .refine((text) => z.ipv4().safeParse(text).success || z.ipv6().safeParse(text).success)
      .default('127.0.0.1')
      .describe('Address that the metrics are served on; 0.0.0.0 serves them to everybody who can reach this node.')
      .meta({ expects: 'an IP address', examples: ['0.0.0.0'] }),
  })
  .prefault({})
  .describe('Where Prometheus may scrape.')

/** Random identities prove who a peer is; derived ones are for meshes with agents of the Go system. */
const identitySchema = z
  .enum(['random', 'derived'])
  .default('random')
  .describe(
    'Where the identity of this node comes from: a random key kept in stateDir, or, for a mesh with agents of the ' +
      'Go system, its name. A derived identity proves nothing, and all nodes of a mesh need the same kind.',
  )

/** Which paths this node takes. */
const pathsSchema = z
  .strictObject({
    directOnly: z
      .boolean()
      .default(false)
      .describe('Carry no flows of this node through relays; without a direct path they fail.'),
    relayOnly: z
      .boolean()
      .default(false)
      .describe('Neither seek direct paths nor tell peers the addresses of this node; flows go through relays alone.'),
    noPunch: z.boolean().default(false).describe('Open no holes in NATs.'),
    noPortMapping: z
      .boolean()
      .default(false)
      .describe('Do not ask the router in front of this node (PCP, NAT-PMP, UPnP) to open a port for listenPort.'),
  })
  .refine(({ directOnly, relayOnly }) => !(directOnly && relayOnly), {
    path: ['relayOnly'],
    error: 'leaves no path together with directOnly',
    params: { remedy: 'set one of the two' },
  })
  .prefault({})
  .describe('Which paths this node takes to peers.')

/** The site's way out; what is wrong with it is told without the value, which may hold a password. */
const proxySchema = z
  .string()
  .refine((text) => proxyPattern.test(text), {
    error: 'expected http://[user:password@]host:port or environment',
    params: { remedy: 'write it like http://proxy.example.org:3128, and special characters of a password as %XX' },
  })
  .default('')
  .describe(
    'HTTP proxy (CONNECT) through which servers are reached: http://[user:password@]host:port, or "environment" for ' +
      'HTTPS_PROXY and NO_PROXY.',
  )
  .meta({ expects: 'http://[user:password@]host:port or environment', examples: ['http://proxy.example.org:3128'] })

/** Ports besides the first one. */
const morePortsSchema = z
  .array(z.int().min(1).max(65535))
  .default([])
  .describe('Further TCP ports that are served like listenPort: 443 for sites that let nothing else out.')
  .meta({ expects: 'a port number', examples: [443] })

/** How flows travel to peers. */
const linkFields = {
  links: z
    .boolean()
    .default(true)
    .describe('Carry flows between agents over TLS connections of their own; without, over libp2p streams alone.'),
  resumeSeconds: z
    .int()
    .min(0)
    .max(300)
    .default(30)
    .describe(
      'Seconds that open connections wait for a node to which all links were lost, and then go on where they were; after ' +
        'that they are reset. 0 resets them at once. Each of the two nodes waits as long as it is told here.',
    ),
  paths: pathsSchema,
}

/** Who may join at all. */
const preSharedKeySchema = z
  .strictObject({
    enable: z.boolean().default(true).describe('Admit only nodes that hold the same pre-shared key.'),
    path: z.string().startsWith('/').default('/etc/edgemesh/psk').describe('File that holds the pre-shared key.'),
    previousPath: z
      .string()
      .regex(/^(?:\/.*)?$/)
      .default('')
      .describe('During a rotation, the file that holds the key before it, which is accepted too.')
      .meta({ expects: 'an absolute path', examples: ['/etc/edgemesh/psk.previous'] }),
  })
  .prefault({})
  .describe('The pre-shared key of the mesh; followed while the process runs.')

const identityPattern = /^[1-9A-HJ-NP-Za-km-z]{46,64}$/
const namePattern = /^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/
const identityExample = '12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X'

/** Who is who, beyond what the pre-shared key proves. */
const admissionFields = {
  trust: z
    .enum(['psk', 'pinned'])
    .default('psk')
    .describe(
      'Whether a node name that was never seen is bound to the first member that claims it (psk), or refused unless ' +
        'peers names it (pinned); names that are bound already stay so.',
    ),
  peers: z
    .record(
      z
        .string()
        .max(253)
        .regex(namePattern)
        .meta({ expects: 'a node name', examples: ['edge-a1'] }),
      z
        .string()
        .regex(identityPattern)
        .meta({ expects: 'a peer ID', examples: [identityExample] }),
    )
    .default({})
    .describe('Node names and the peer IDs that they belong to, whatever was seen first.')
    .meta({ expects: 'a mapping of node names to peer IDs', examples: [{ 'edge-a1': identityExample }] }),
  revoked: z
    .array(
      z
        .string()
        .max(253)
        .regex(new RegExp(`${namePattern.source}|${identityPattern.source}`))
        .meta({ expects: 'a node name or a peer ID', examples: ['edge-a1'] }),
    )
    .default([])
    .describe('Nodes, by name or peer ID, that are shut out: connections to them end, new ones are refused.'),
}

/** What one node gets of a relay, so that few cannot use up the line of all. */
const relaySchema = z
  .strictObject({
    connectionsPerNode: z
      .int()
      .positive()
      .default(256)
      .describe('Connections of one node to others that this relay joins at once.'),
    bytesPerNodeAndDay: z
      .int()
      .min(0)
      .default(0)
      .describe(
        'Bytes, sent and received, that this relay carries for one node from midnight to midnight (UTC); 0 for any ' +
          'number. A node that has used them is cut off from the relay, and told so; its direct paths stay.',
      ),
  })
  .prefault({})
  .describe('Limits of this node as a relay: of a server, and of an agent under relayNodes.')

/** Keys of the Go system's relay discovery, and those that it writes for itself. */
const goTunnelFields = {
  relayNodes: z
    .array(
      z.strictObject({
        nodeName: z
          .string()
          .min(1)
          .describe('Name of an agent that relays.')
          .meta({ examples: ['cloud-1'] }),
        advertiseAddress: z.array(addressSchema).default([]).describe('Its public addresses.'),
      }),
    )
    .default([])
    .describe('Agents that relay for other agents, at the listenPort of all; may change while they run.'),
  rendezvous: z
    .string()
    .default('EDGEMESH_PLAYGOUND')
    .describe('Name of the mesh in discovery.')
    .meta({
      ignoredUnless: { key: 'identity', value: 'derived', why: 'only a mesh of derived identities is found by it' },
    }),
  enableIpfsLog: z
    .boolean()
    .default(false)
    .describe("Log the Go libp2p library's own lines.")
    .meta({ ignored: 'that library is not used; set logLevel' }),
  maxCandidates: z
    .int()
    .positive()
    .default(15)
    .describe('Relay candidates considered.')
    .meta({ ignored: 'of all servers and relays the nearest is used' }),
  heartbeatPeriod: z
    .int()
    .positive()
    .default(120)
    .describe('Seconds between checks of relays.')
    .meta({ ignored: 'how often a relay is asked follows from what it is used for' }),
  finderPeriod: z
    .int()
    .positive()
    .default(60)
    .describe('Seconds between searches for relays.')
    .meta({ ignored: 'relays are those that servers and relayNodes name' }),
  mode: goInternal('the role decides'),
  nodeName: goInternal('the top-level nodeName counts'),
  configPath: goInternal('the file given to --config counts'),
}

/**
 * `modules.edgeTunnel` with the defaults of a role: listen port 20006 for an agent, 20007 for a gateway, 20004
 * for a server; only a server is enabled without being told.
 */
export function tunnelSchemaOf(defaultListenPort: number, isEnabledByDefault = false) {
  return z.strictObject({
    enable: z.boolean().default(isEnabledByDefault).describe('Connect to other nodes.'),
    listenPort: z.int().min(0).max(65535).default(defaultListenPort).describe('TCP port that peers connect to.'),
    morePorts: morePortsSchema,
    proxy: proxySchema,
    transport: z
      .enum(['tcp', 'ws', 'quic'])
      .default('tcp')
      .describe('How peers connect to each other. Only tcp is available in this version.'),
    servers: z
      .array(
        z
          .string()
          .regex(serverPattern)
          .refine((text) => isHost(hostOf(text)))
          .meta({ expects: 'host[:port][/p2p/PEER_ID]', examples: ['mesh.example.org:20004'] }),
      )
      .default([])
      .describe('Public `edgemesh server`s, as host[:20004][/p2p/PEER_ID]; a peer ID pins the server.'),
    advertiseAddress: z
      .array(addressSchema)
      .default([])
      .describe('Addresses to tell peers besides those of the interfaces.'),
    identity: identitySchema,
    psk: preSharedKeySchema,
    muxers: z
      .array(z.enum(['yamux', 'mplex']))
      .min(1)
      .default(['yamux'])
      .describe('Stream multiplexers offered, best first. mplex has no backpressure.')
      .meta({ expects: 'a list of at least one of yamux, mplex' }),
    ...admissionFields,
    relay: relaySchema,
    ...linkFields,
    listenInterfaces: z
      .string()
      .default('*')
      .describe('Interfaces whose addresses are told to peers, separated by commas.'),
    extraFilteredInterfaces: z
      .string()
      .default('')
      .describe('More prefixes of interface names never told to peers, separated by commas.'),
    allowNodePorts: nodePortsSchema,
    tunnelLimitConfig: limitSchema,
    metricConfig: metricSchema,
    ...goTunnelFields,
  })
}

/** Validated `modules.edgeTunnel`. */
export type TunnelConfig = z.output<ReturnType<typeof tunnelSchemaOf>>

/** A key that the Go system writes for itself. */
function goInternal(reason: string) {
  return z.string().optional().describe('Internal value of the Go system.').meta({ ignored: reason })
}

/** The host of `host[:port][/p2p/ID]`, without the brackets of an IPv6 address. */
function hostOf(server: string): string {
  const match = /^\[(?<v6>[^\]]*)\]|^(?<name>[^:/]*)/.exec(server)?.groups
  return match?.['v6'] ?? match?.['name'] ?? ''
}

/** Text of digits and dots, or with a colon, must be an address; anything else may be a name. */
function isHost(text: string): boolean {
  if (text.includes(':')) return z.ipv6().safeParse(text).success
  return !/^[\d.]+$/.test(text) || z.ipv4().safeParse(text).success
}
