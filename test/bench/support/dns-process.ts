/** Edgemesh's DNS alone, for benches: `dns-process.ts PORT NAMES`, with NAMES as JSON of [name, ClusterIP]. */
import process from 'node:process'
import { createCatalog } from '../../../src/catalog/index.ts'
import { dnsSchema } from '../../../src/dns/config.ts'
import { startDns } from '../../../src/dns/index.ts'
import { createMetrics, silentLogger } from '../../../src/observability/index.ts'

const [port, names = '[]'] = process.argv.slice(2)
const pairs: readonly (readonly [string, string])[] = JSON.parse(names)
using catalog = createCatalog()
catalog.replace(
  'services',
  pairs.map(([fullName, clusterIP]) => {
    const [name = '', namespace = ''] = fullName.split('.')
    const rest = { labels: {}, type: 'ClusterIP', headless: false, publishNotReadyAddresses: false } as const
    return { namespace, name, ...rest, clusterIPs: [clusterIP], ports: [{ name: 'http', protocol: 'tcp', port: 80 }] }
  }),
)
for (const kind of ['endpointSlices', 'nodes'] as const) catalog.replace(kind, [])
await using _server = await startDns({
  config: dnsSchema.parse({ upstreamServers: ['127.0.0.1:1'] }),
  address: '127.0.0.1',
  port: Number(port),
  catalog,
  logger: silentLogger,
  metrics: createMetrics(),
  ownAddresses: () => [],
})
await new Promise<void>((resolve) => process.once('SIGTERM', () => resolve()))
