/**
 * The agent's configuration file changes while it runs:
 *
 *                     wan
 *     ┌────────────────┴────────────────┐
 *   relay                            router-a
 *   server                              │
 *                                    edge-a1   agent
 */
import assert from 'node:assert/strict'
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { edgemeshBinary, type Host, type Lab, type LabProcess, startTestServer } from '../lab/index.ts'
import {
  assertRefusedAtOnce,
  bodyFrom,
  configFileOf,
  createSite,
  edgemesh,
  eventually,
  statusOf,
} from './support/site.ts'

let lab: Lab
let edge: Host
let relay: Host
let file = ''
let original = ''
let server: LabProcess
before(async () => {
  const spec = { cloud: { relay: {} }, lans: { a: { nodes: { 'edge-a1': { pods: ['web-edge-a1'] } } } } } as const
  lab = await createSite(spec, ['edge-a1'])
  edge = lab.node('edge-a1')
  relay = lab.node('relay')
  server = await lab.startServer('relay')
  await lab.startAgent('edge-a1').then((agent) => agent.stop())
  file = configFileOf(edge)
  original = await readFile(file, 'utf8')
})
after(() => lab?.[Symbol.asyncDispose]())

const wrong = '203.0.113.250:20004'
const right = () => `${relay.address}:20004`

/** The lab's configuration with other servers and, as a further change, any key of `edgeTunnel`. */
function render(servers: readonly string[], tunnel: Readonly<Record<string, unknown>> = {}): string {
  const document = parse(original)
  Object.assign(document.modules.edgeTunnel, { servers, ...tunnel })
  return stringify(document)
}

async function startAgent(configFile = file): Promise<LabProcess> {
  const agent = edge.spawn([edgemeshBinary(), 'agent', '--config', configFile])
  await agent.waitForLine(/"msg":"agent ready"/, 15_000)
  return agent
}

async function waitForServers(expected: readonly (readonly [string, boolean])[], timeoutMs = 5_000): Promise<number> {
  return await eventually(timeoutMs, async () => {
    const servers = (await statusOf(edge)).tunnel?.servers ?? []
    assert.deepEqual(
      servers.map(({ address, connected, reserved }) => [address, connected && reserved]),
      expected,
    )
  })
}

/** Nodes that the server says are connected, and how many can be reached through it. */
async function seenByServer(): Promise<{ readonly connected: readonly string[]; readonly reservations: number }> {
  const { server } = await statusOf(relay, 'server')
  const connected = server?.records.filter((record) => record.connected).map(({ name }) => name) ?? []
  return { connected, reservations: server?.reservations ?? -1 }
}

test('a corrected server address is connected, a removed server is disconnected, all in one process', async (t) => {
  await writeFile(file, render([wrong]))
  await using agent = await startAgent()
  await waitForServers([[wrong, false]])
  const { pid } = await statusOf(edge)

  await writeFile(file, render([right()]))
  const connectMs = await waitForServers([[right(), true]])
  await eventually(2_000, async () => {
    assert.deepEqual(await seenByServer(), { connected: ['edge-a1'], reservations: 1 })
  })

  await writeFile(`${file}.new`, render([]))
  await rename(`${file}.new`, file)
  const removeMs = await waitForServers([])
  await eventually(2_000, async () => assert.deepEqual(await seenByServer(), { connected: [], reservations: 0 }))

  assert.equal((await statusOf(edge)).pid, pid)
  assert.equal(await bodyFrom(edge, 'http://10.96.0.1/'), 'web-edge-a1')
  assert.equal(agent.exit, undefined)
  t.diagnostic(`connected ${connectMs.toFixed(0)} ms after the edit, gone ${removeMs.toFixed(0)} ms after it`)
})

test('a broken edit is named by line and changes nothing; the next good one counts', async () => {
  await writeFile(file, render([right()]))
  await using agent = await startAgent()
  await waitForServers([[right(), true]])
  const broken = render([right(), 'not an address'])
  const line = broken.split('\n').findIndex((text) => text.includes('not an address')) + 1
  await writeFile(file, broken)
  const told = await agent.waitForLine(/"msg":"the configuration file is not valid; what is in force stays"/)
  assert.ok(told.includes(`${file}:${line}:`), told)
  assert.match(told, /modules\.edgeTunnel\.servers\[1\]/)
  await waitForServers([[right(), true]])
  await writeFile(file, render([right(), wrong], { listenPort: 20009 }))
  await waitForServers([
    [right(), true],
    [wrong, false],
  ])
  const output = agent.output()
  assert.equal(output.match(/the configuration file is not valid/g)?.length, 1)
  assert.match(
    output,
    /"reason":"modules\.edgeTunnel\.listenPort","msg":"changed keys of the configuration take effect at the next start"/,
  )
  assert.equal(output.match(/"msg":"server connected"/g)?.length, 1, 'the server that stays is left alone')
})

test('the volume of a ConfigMap is followed through its swaps', async () => {
  const volume = join(edge.dir, 'volume')
  const publish = async (version: string, text: string) => {
    await mkdir(join(volume, version), { recursive: true })
    await writeFile(join(volume, version, 'edgemesh-agent.yaml'), text)
    await symlink(version, join(volume, '..data_tmp'))
    await rename(join(volume, '..data_tmp'), join(volume, '..data'))
  }
  await publish('..1', render([wrong]))
  await symlink('..data/edgemesh-agent.yaml', join(volume, 'edgemesh-agent.yaml'))
  await using _agent = await startAgent(join(volume, 'edgemesh-agent.yaml'))
  await waitForServers([[wrong, false]])
  await publish('..2', render([right()]))
  await rm(join(volume, '..1'), { recursive: true })
  await waitForServers([[right(), true]])
  await publish('..3', render([]))
  await rm(join(volume, '..2'), { recursive: true })
  await waitForServers([])
})

test('metrics are served on the loopback address alone, and a port that is taken stops nothing', async () => {
  await writeFile(file, render([right()], { metricConfig: { enable: true } }))
  const holder = await startTestServer(edge, 'echo', { port: 9999, address: '127.0.0.1' })
  await using agent = await startAgent()
  await agent.waitForLine(
    /tcp 127\.0\.0\.1:9999: address is already in use.*"msg":"metrics are not served; trying again"/,
  )
  await waitForServers([[right(), true]])
  await holder.stop()
  await eventually(10_000, async () => {
    const page = await bodyFrom(edge, 'http://127.0.0.1:9999/metrics')
    assert.ok(page.includes(`edgemesh_tunnel_server_connected{server="${right()}"} 1`), page)
  })
  await assertRefusedAtOnce(edge, `http://${edge.address}:9999/metrics`)
  const { stdout } = await edgemesh(edge, 'status', 'agent', '--config', file)
  assert.match(stdout, /^metrics {3}on http:\/\/127\.0\.0\.1:9999\/metrics$/m)
})

test('an agent named in relayNodes relays at the port of all agents, on and off by reload', async (t) => {
  const relayNodes = [{ nodeName: 'relay', advertiseAddress: [relay.address] }]
  const place = `${relay.address}:20006`
  await using _relaying = await lab.startAgent('relay', { modules: { edgeTunnel: { servers: [], relayNodes } } })
  const relayFile = configFileOf(relay)
  const named = await readFile(relayFile, 'utf8')
  await writeFile(file, render([], { relayNodes }))
  await using _agent = await startAgent()
  await waitForServers([[place, true]])
  await eventually(5_000, async () => {
    assert.deepEqual((await statusOf(relay)).tunnel?.relay, { agents: 1, reservations: 1 })
  })
  await eventually(5_000, async () => assert.equal(await bodyFrom(relay, 'http://10.96.0.1/'), 'web-edge-a1'))

  const document = parse(named)
  document.modules.edgeTunnel.relayNodes = []
  await writeFile(relayFile, stringify(document))
  await waitForServers([[place, false]])
  await writeFile(relayFile, named)
  const backMs = await waitForServers([[place, true]], 20_000)
  t.diagnostic(`the relay is used again ${backMs.toFixed(0)} ms after it is named again`)
  await writeFile(file, render([]))
  await waitForServers([])
})

test('a server names mistakes in its file and keys that wait for a restart, and serves on', async () => {
  const serverFile = configFileOf(relay, 'server')
  const text = await readFile(serverFile, 'utf8')
  await writeFile(serverFile, text.replace('advertiseAddress', 'advertiseAdress'))
  const told = await server.waitForLine(/"msg":"the configuration file is not valid; what is in force stays"/)
  assert.match(told, /modules\.edgeTunnel\.advertiseAdress.*advertiseAddress/)
  const document = parse(text)
  document.modules.edgeTunnel.listenPort = 20014
  await writeFile(serverFile, stringify(document))
  await server.waitForLine(
    /"reason":"modules\.edgeTunnel\.listenPort","msg":"changed keys .* take effect at the next start"/,
  )
  await writeFile(serverFile, text)
  await writeFile(file, render([right()]))
  await using _agent = await startAgent()
  await waitForServers([[right(), true]])
})
