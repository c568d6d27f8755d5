/** `userspace-proxy.ts PORT ROUTES`: the userspace proxy alone; ROUTES maps local addresses to ports on 127.0.0.1. */
import process from 'node:process'
import { createDirectDialer } from '../../../src/net/index.ts'
import { createMetrics, silentLogger } from '../../../src/observability/index.ts'
import { placed } from '../../../src/proxy/places.fixture.ts'
import { startUserspaceProxy } from '../../../src/proxy/userspace/userspace-proxy.ts'

const [port = '', routes = '{}'] = process.argv.slice(2)
const proxy = await startUserspaceProxy({
  host: '0.0.0.0',
  port: Number(port),
  dialer: createDirectDialer(),
  balancing: 'round-robin',
  dialTimeoutMs: 5_000,
  logger: silentLogger,
  metrics: createMetrics(),
})
await proxy.setRoutes(
  placed(
    proxy,
    Object.entries<number>(JSON.parse(routes)).map(([address, target]) => [
      address,
      { id: address, protocol: 'tcp', preferred: [{ address: '127.0.0.1', port: target }], others: [] },
    ]),
  ),
)
// In order, so that a profile is written.
process.once('SIGTERM', () => process.exit())
