/**
 * A member of the mesh that asks an agent for what it must not give: `hostile-peer.ts SETTINGS`, as JSON. First it
 * joins, so that everybody knows its name; then it talks to the agent directly, past the checks of its own side.
 * Prints how each request ended, as one line of JSON.
 */
import { join } from 'node:path'
import process from 'node:process'
import { createCatalog } from '../../../src/catalog/index.ts'
import { createDirectDialer, DialError } from '../../../src/net/index.ts'
import { createHealth, createMetrics, silentLogger } from '../../../src/observability/index.ts'
import { tunnelSchemaOf } from '../../../src/tunnel/config.ts'
import { flowProtocol } from '../../../src/tunnel/flows/carrier.ts'
import { type OpenRequest, openMessages } from '../../../src/tunnel/flows/open-message.ts'
import { createHost } from '../../../src/tunnel/host/host.ts'
import { loadMembership } from '../../../src/tunnel/identity/load-membership.ts'
import { startTunnel } from '../../../src/tunnel/index.ts'

/** What the peer is told. */
export interface HostileSettings {
  /** For the identity. */
  readonly dir: string
  readonly server: string
  readonly psk: string
  /** The agent that is asked, as `ADDRESS/tcp/PORT` of its multiaddress. */
  readonly victim: string
  /** Asked for in the name of a node that is known. */
  readonly requests: readonly Omit<OpenRequest, 'protocol'>[]
  /** Asked for by somebody with the pre-shared key who has told nobody a name. */
  readonly nameless: Omit<OpenRequest, 'protocol'>
}

const settings: HostileSettings = JSON.parse(process.argv[2] ?? '')
const signal = AbortSignal.timeout(30_000)
const config = tunnelSchemaOf(0).parse({
  enable: true,
  listenPort: 0,
  servers: [settings.server],
  psk: { path: settings.psk },
})

/** Joins and asks once through the mesh, which works only when the far end has our record. */
async function joinMesh(stateDir: string, [first]: HostileSettings['requests']): Promise<void> {
  using catalog = createCatalog()
  await using tunnel = await startTunnel({
    config,
    nodeName: 'intruder',
    stateDir,
    catalog,
    localDialer: createDirectDialer(),
    nodeAddress: () => '127.0.0.1',
    interfaceAddresses: () => [],
    logger: silentLogger,
    metrics: createMetrics(),
    health: createHealth(),
  })
  if (first === undefined) return
  for (;;) {
    const error: unknown = await tunnel.dialer.dial({ protocol: 'tcp', ...first }, signal).catch((reason) => reason)
    if (error instanceof DialError && error.failure === 'no-path') continue
    return
  }
}

async function ask(stateDir: string, requests: HostileSettings['requests']): Promise<string[]> {
  const membership = await loadMembership({ stateDir, nodeName: 'hostile', role: 'agent' }, config, silentLogger)
  await using host = await createHost({
    ...membership,
    listenPort: 0,
    muxers: ['yamux'],
    maxStreamsPerConnection: 64,
    isRelay: false,
    logger: silentLogger,
  })
  await host.listen()
  const connection = await host.dial(`/ip4/${settings.victim}`, signal)
  const outcomes: string[] = []
  for (const request of requests) {
    const stream = await connection.openStream(flowProtocol, signal)
    const outcome = await openMessages.request(stream, { protocol: 'tcp', ...request }, signal).then(
      () => 'served',
      (error: unknown) => (error instanceof DialError ? `${error.failure}: ${error.message}` : String(error)),
    )
    outcomes.push(outcome)
    stream.destroy()
  }
  return outcomes
}

const known = join(settings.dir, 'intruder')
await joinMesh(known, settings.requests)
const outcomes = await ask(known, settings.requests)
console.log(JSON.stringify([...outcomes, ...(await ask(join(settings.dir, 'nameless'), [settings.nameless]))]))
