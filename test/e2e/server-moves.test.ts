/**
 * A server that moves to another machine with its identity, once by its name and once by the list of servers:
 *
 *                    wan
 *     ┌────────┬──────┴─────┬────────────┐
 *   relay   relay-2      router-a     router-b     NATs that give each connection a random port
 *   server,    │            │            │
 *   then ──► server      edge-a1      edge-b1      agents; edge-b1 runs a web server
 */
import assert from 'node:assert/strict'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, type TestContext, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { createLab, type Host, type Lab, type LabProcess, startTestServer } from '../lab/index.ts'
import { bodyFrom, configFileOf, eventually, quickStatusOf, writeService } from './support/site.ts'

const url = 'http://10.96.1.1/'
const port = 8080
const serverName = 'server.mesh.example'
const agentNodes = ['edge-a1', 'edge-b1'] as const
/** Told is what it takes; asserted leaves room for a busy machine. */
const patienceMs = 20_000

let lab: Lab
let server: LabProcess
let agents: LabProcess[]
let peerId: string
before(async () => {
  const lan = (node: string) => ({ nat: 'randomising', nodes: [node] }) as const
  lab = await createLab({
    cloud: ['relay', 'relay-2'],
    lans: { a: lan('edge-a1'), b: lan('edge-b1') },
    dnsRecords: { [serverName]: '203.0.113.100' },
  })
  assert.equal(lab.node('relay').address, '203.0.113.100')
  const target = lab.node('edge-b1')
  await startTestServer(target, 'http', { port })
  await writeService(lab, 'web', '10.96.1.1', [{ node: 'edge-b1', host: target, port }])
  server = await lab.startServer('relay')
  const config = { modules: { edgeTunnel: { enable: true, servers: [`${serverName}:20004`] } } }
  agents = await Promise.all(agentNodes.map((node) => lab.startAgent(node, config)))
  await untilAnswered()
  peerId = await peerIdOf(lab.node('relay'))
})
after(() => lab?.[Symbol.asyncDispose]())

async function untilAnswered(): Promise<number> {
  return await eventually(patienceMs, async () =>
    assert.equal(await bodyFrom(lab.node('edge-a1'), url, '--max-time', '2'), 'edge-b1'),
  )
}

async function peerIdOf(host: Host): Promise<string> {
  return (await quickStatusOf(host, 'server')).server?.peerId ?? ''
}

/** What an operator does: stops the server, takes its state to the other machine, and starts it there. */
async function move(from: Host, to: Host): Promise<void> {
  await server.stop()
  await cp(join(from.dir, 'server', 'state'), join(to.dir, 'server', 'state'), { recursive: true })
  server = await lab.startServer(to.name)
  assert.equal(await peerIdOf(to), peerId)
}

async function assertHealed(t: TestContext, servers: string): Promise<void> {
  const ms = await untilAnswered()
  t.diagnostic(`first answer ${ms.toFixed(0)} ms after all was told of the move`)
  for (const node of agentNodes) {
    const { tunnel } = await quickStatusOf(lab.node(node))
    assert.deepEqual(
      tunnel?.servers.map(({ address, connected }) => [address, connected]),
      [[servers, true]],
    )
  }
  for (const agent of agents) {
    assert.equal(agent.exit, undefined)
    assert.doesNotMatch(agent.output(), /server refused/)
  }
}

test('by its name: agents find it where the name leads now', async (t) => {
  const [from, to] = [lab.node('relay'), lab.node('relay-2')]
  await move(from, to)
  const resolver = join(import.meta.dirname, '..', 'lab', 'servers', 'dns.ts')
  const records = JSON.stringify({ [serverName]: to.address })
  await to.spawn([process.execPath, resolver, to.address, records]).waitForLine(/listen/)
  for (const node of agentNodes) await writeFile(lab.node(node).resolvConf, `nameserver ${to.address}\n`)
  await assertHealed(t, `${serverName}:20004`)
})

test('by the list of servers: agents follow their configuration', async (t) => {
  const [from, to] = [lab.node('relay-2'), lab.node('relay')]
  await move(from, to)
  for (const node of agentNodes) {
    const file = configFileOf(lab.node(node))
    const document = parse(await readFile(file, 'utf8'))
    document.modules.edgeTunnel.servers = [`${to.address}/p2p/${peerId}`]
    await writeFile(file, stringify(document))
  }
  await assertHealed(t, `${to.address}:20004`)
})
