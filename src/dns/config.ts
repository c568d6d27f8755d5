import * as z from 'zod'

const resolverPattern = /^(?<bare>[^[\]]+?)(?::(?<port>\d+))?$|^\[(?<v6>[^\]]+)\](?::(?<v6port>\d+))?$/

/** `IP`, `IP:port` or `[IPv6]:port`. */
const resolverSchema = z
  .string()
  .refine(isResolver)
  .meta({ expects: 'an IP address with an optional port', examples: ['192.0.2.53:53'] })

const resolversSchema = z.array(resolverSchema).default([])

const domainSchema = z
  .string()
  .max(200)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/)
  .meta({ expects: 'a DNS domain in lower case without a dot at its end', examples: ['edge.example.org'] })

/** `modules.edgeDNS`: cluster DNS on the node. */
export const dnsSchema = z.strictObject({
  enable: z.boolean().default(true).describe('Answer cluster DNS on the bridge address.'),
  listenPort: z.int().min(1).max(65535).default(53).describe('UDP and TCP port on the bridge address.'),
  clusterDomain: domainSchema.default('cluster.local').describe('DNS domain of the cluster.'),
  moreClusterDomains: z
    .array(domainSchema)
    .default([])
    .describe('More domains in which the names of the cluster are answered, such as the one before a change.'),
  ttlSeconds: z.int().min(0).max(3600).default(30).describe('TTL of answers for cluster names.'),
  upstreamServers: resolversSchema.describe('Resolvers for other names, IP or IP:port; empty means those of the host.'),
  stubDomains: z
    .array(
      z.strictObject({
        domain: domainSchema.describe('The domain.'),
        servers: z.array(resolverSchema).min(1).describe('Its resolvers, IP or IP:port.'),
      }),
    )
    .default([])
    .describe('Resolvers for a domain and the names below it, in place of the others; the longest domain counts.'),
  resolvConf: z
    .string()
    .startsWith('/')
    .default('/etc/resolv.conf')
    .describe("The host's resolver file, re-read when it changes."),
  cacheDNS: z
    .strictObject({
      enable: z
        .boolean()
        .default(false)
        .describe(
          'Forward and cache everything, also cluster names, which are answered here only when the cluster DNS does not.',
        ),
      autoDetect: z
        .boolean()
        .default(true)
        .describe(
          'Find the cluster DNS Service (kube-system: coredns, kube-dns or label k8s-app=kube-dns) and use it as upstream.',
        ),
      upstreamServers: resolversSchema.describe('Upstreams of the cache, IP or IP:port.'),
      cacheTTL: z.int().min(0).default(30).describe('Longest time in seconds that an answer is cached.'),
    })
    .prefault({})
    .describe('Cache in front of the cluster DNS.'),
  kubeAPIConfig: z
    .unknown()
    .optional()
    .describe('Internal value of the Go system.')
    .meta({ ignored: 'the top-level kubeAPIConfig counts' }),
  listenInterface: z
    .string()
    .optional()
    .describe('Internal value of the Go system.')
    .meta({ ignored: 'DNS listens on commonConfig.bridgeDeviceIP' }),
})

/** Validated `modules.edgeDNS`. */
export type DnsConfig = z.output<typeof dnsSchema>

function isResolver(text: string): boolean {
  if (isIpv6(text)) return true
  const parts = resolverPattern.exec(text)?.groups
  if (parts === undefined) return false
  const isAddress = parts['v6'] === undefined ? isIpv4(parts['bare']) : isIpv6(parts['v6'])
  const port = Number(parts['port'] ?? parts['v6port'] ?? 53)
  return isAddress && port >= 1 && port <= 65535
}

function isIpv4(text: string | undefined): boolean {
  return z.ipv4().safeParse(text).success
}

function isIpv6(text: string): boolean {
  return z.ipv6().safeParse(text).success
}
