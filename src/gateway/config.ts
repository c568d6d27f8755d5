import * as z from 'zod'
import { loadBalancerSchema } from '../proxy/config.ts'

const interfaceList = /^(\*|[^\s,*/]{1,15}(,\s*[^\s,*/]{1,15})*)?$/
const domainPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/** `modules.edgeGateway`: the way in from outside of the mesh. */
export const gatewayModuleSchema = z
  .strictObject({
    enable: z.boolean().default(false).describe('Listen for requests from outside the mesh.'),
    nic: z
      .string()
      .regex(interfaceList)
      .default('*')
      .describe('Interfaces to listen on, separated by commas; * means all.')
      .meta({ expects: 'interface names separated by commas, or *', examples: ['eth0,eth1'] }),
    includeIP: addressFilter('Addresses or networks to listen on, separated by commas; * means all.'),
    excludeIP: addressFilter('Addresses or networks not to listen on, separated by commas; * means none.'),
    labels: z
      .record(z.string(), z.string())
      .default({ kubeedge: 'edgemesh-gateway' })
      .describe('Labels of this gateway: Gateways whose selector they satisfy are served here.'),
    clusterDomain: z
      .string()
      .regex(domainPattern)
      .default('cluster.local')
      .describe('DNS domain of the cluster, in which destinations may be named in full.')
      .meta({ expects: 'a DNS domain in lower case without a dot at its end' }),
    proxyProtocol: z
      .boolean()
      .default(false)
      .describe('Every connection begins with a PROXY protocol header (version 1 or 2) that names the client.'),
    forwardedHeader: z
      .boolean()
      .default(false)
      .describe('Also tell backends who asks in a Forwarded header (RFC 7239), besides X-Forwarded-*.'),
    trustForwardedHeaders: z
      .boolean()
      .default(false)
      .describe('Keep and extend the X-Forwarded-* headers that clients send, as behind another proxy.'),
    accessLog: z
      .strictObject({
        mode: z.enum(['off', 'on', 'sampled']).default('off').describe('Which requests get a line in the log.'),
        sampleRatio: z
          .number()
          .min(0)
          .max(1)
          .default(0.01)
          .describe('Share of the requests that are logged with sampled; those answered with 5xx always are.'),
      })
      .prefault({})
      .describe('One JSON line on standard output for each request.'),
    limits: z
      .strictObject({
        maxHeadBytes: z.int().min(1024).max(1_048_576).default(65_536).describe('Longest head of a request.'),
        headTimeoutMs: z
          .int()
          .min(100)
          .max(600_000)
          .default(10_000)
          .describe('How long the head of a request, or a TLS handshake, may take.'),
        bodyTimeoutMs: z
          .int()
          .min(100)
          .max(3_600_000)
          .default(60_000)
          .describe('How long a client may send nothing of a body that it began.'),
        idleTimeoutMs: z
          .int()
          .min(1000)
          .max(86_400_000)
          .default(75_000)
          .describe('How long a connection of a client may be idle between two requests.'),
        maxConnections: z.int().min(1).default(10_000).describe('Connections of clients at a time on each listener.'),
      })
      .prefault({})
      .describe('What one client may take.'),
    dialTimeoutMs: z
      .int()
      .min(100)
      .max(600_000)
      .default(5000)
      .describe('How long one attempt to reach a backend may take, in milliseconds.'),
    drainTimeoutMs: z
      .int()
      .min(0)
      .max(600_000)
      .default(10_000)
      .describe('How long requests under way may finish when the gateway stops, in milliseconds.'),
    loadBalancer: loadBalancerSchema,
  })
  .prefault({})
  .describe('The way in from outside the mesh.')

/** Validated `modules.edgeGateway`. */
export type GatewayModuleConfig = z.output<typeof gatewayModuleSchema>

function addressFilter(description: string) {
  return z
    .string()
    .refine(isAddressList)
    .default('*')
    .describe(description)
    .meta({ expects: 'IP addresses or networks separated by commas, or *', examples: ['192.0.2.7,10.1.0.0/16'] })
}

function isAddressList(text: string): boolean {
  if (text === '*' || text === '') return true
  return text.split(',').every((item) => isAddressOrNetwork(item.trim()))
}

function isAddressOrNetwork(text: string): boolean {
  return [z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()].some((schema) => schema.safeParse(text).success)
}
