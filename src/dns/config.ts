import * as z from 'zod'

/** `modules.edgeDNS`: cluster DNS on the node. */
export const dnsSchema = z.strictObject({
  enable: z.boolean().default(true).describe('Answer cluster DNS on the bridge address.'),
  listenPort: z.int().min(1).max(65535).default(53).describe('UDP and TCP port on the bridge address.'),
  clusterDomain: z.string().default('cluster.local').describe('DNS domain of the cluster.'),
  ttlSeconds: z.int().min(0).max(3600).default(30).describe('TTL of answers for cluster names.'),
  upstreamServers: z
    .array(z.string())
    .default([])
    .describe('Resolvers for other names, IP or IP:port; empty means those of the host.'),
  resolvConf: z.string().default('/etc/resolv.conf').describe("The host's resolver file, re-read when it changes."),
  cacheDNS: z
    .strictObject({
      enable: z.boolean().default(false).describe('Forward and cache everything instead of answering cluster names.'),
      autoDetect: z.boolean().default(true).describe('Find the cluster DNS Service and use it as upstream.'),
      upstreamServers: z.array(z.string()).default([]).describe('Upstreams of the cache, IP or IP:port.'),
      cacheTTL: z.int().min(0).default(30).describe('Longest time in seconds that an answer is cached.'),
    })
    .prefault({}),
})

/** Validated `modules.edgeDNS`. */
export type DnsConfig = z.output<typeof dnsSchema>
