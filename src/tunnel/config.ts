import * as z from 'zod'

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

/** Where Prometheus may scrape. */
const metricSchema = z
  .strictObject({
    enable: z.boolean().default(false).describe('Serve Prometheus metrics over TCP.'),
    port: z.int().min(1).max(65535).default(9999).describe('TCP port of the metrics.'),
  })
  .prefault({})

/** `modules.edgeTunnel` with the listen port that is the default of a role: agent 20006, gateway 20007, server 20004. */
export function tunnelSchemaOf(defaultListenPort: number) {
  return z.strictObject({
    enable: z.boolean().default(false).describe('Connect to other nodes.'),
    listenPort: z.int().min(0).max(65535).default(defaultListenPort).describe('TCP port that peers connect to.'),
    transport: z.enum(['tcp', 'ws', 'quic']).default('tcp').describe('How peers connect to each other.'),
    servers: z
      .array(z.string())
      .default([])
      .describe('Public `edgemesh server`s, as host[:20004][/p2p/PEER_ID]; a peer ID pins the server.'),
    relayNodes: z
      .array(
        z.strictObject({
          nodeName: z.string().describe('Name of an agent that relays.'),
          advertiseAddress: z.array(z.string()).default([]).describe('Its public addresses.'),
        }),
      )
      .default([])
      .describe('Agents that relay for others.'),
    advertiseAddress: z
      .array(z.string())
      .default([])
      .describe('Addresses to tell peers besides those of the interfaces.'),
    psk: z
      .strictObject({
        enable: z.boolean().default(true).describe('Admit only nodes that hold the same pre-shared key.'),
        path: z.string().default('/etc/edgemesh/psk').describe('File that holds the pre-shared key.'),
      })
      .prefault({}),
    muxers: z
      .array(z.enum(['yamux', 'mplex']))
      .default(['yamux'])
      .describe('Stream multiplexers offered, best first. mplex has no backpressure.'),
    listenInterfaces: z
      .string()
      .default('*')
      .describe('Interfaces whose addresses are told to peers, separated by commas.'),
    extraFilteredInterfaces: z
      .string()
      .default('')
      .describe('More prefixes of interface names never told to peers, separated by commas.'),
    rendezvous: z.string().default('EDGEMESH_PLAYGOUND').describe('Name of the mesh in discovery.'),
    enableIpfsLog: z.boolean().default(false).describe("Log the libp2p library's own lines."),
    maxCandidates: z.int().positive().default(15).describe('Relay candidates considered.'),
    heartbeatPeriod: z.int().positive().default(120).describe('Seconds between checks of relays.'),
    finderPeriod: z.int().positive().default(60).describe('Seconds between searches for relays.'),
    tunnelLimitConfig: limitSchema,
    metricConfig: metricSchema,
  })
}

/** Validated `modules.edgeTunnel`. */
export type TunnelConfig = z.output<ReturnType<typeof tunnelSchemaOf>>
