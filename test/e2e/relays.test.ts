/**
 * Two servers between two NATs that no hole can be punched through: one of them is stopped, silent, or suspended.
 *
 *                    wan
 *     ┌────────┬──────┴─────┬────────────┐
 *   relay   relay-2      router-a     router-b     NATs that give each connection a random port
 *   server  server          │            │
 *                        edge-a1      edge-b1      agents; edge-b1 runs a web server
 */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createLab, type Host, type Lab, type LabProcess, startTestServer } from '../lab/index.ts'
import { bodyFrom, eventually, fetchFrom, quickStatusOf, streamFlowsOf, writeService } from './support/site.ts'
import { startSteadyFlow } from './support/steady-flow.ts'

type Change = (relay: 'relay' | 'relay-2') => void | Promise<void>

const url = 'http://10.96.1.1/'
const echoAddress = '10.96.1.2'
const port = 8080
const echoPort = 8082

let lab: Lab
let client: Host
let servers: Record<'relay' | 'relay-2', LabProcess>
let agent: LabProcess
before(async () => {
  const lan = (node: string) => ({ nat: 'randomising', nodes: [node] }) as const
  lab = await createLab({ cloud: ['relay', 'relay-2'], lans: { a: lan('edge-a1'), b: lan('edge-b1') } })
  servers = { 'relay-2': await lab.startServer('relay-2'), relay: await lab.startServer('relay') }
  client = lab.node('edge-a1')
  const target = lab.node('edge-b1')
  await startTestServer(target, 'http', { port })
  await writeService(lab, 'web', '10.96.1.1', [{ node: 'edge-b1', host: target, port }])
  await startTestServer(target, 'echo', { port: echoPort })
  await writeService(lab, 'echo', echoAddress, [{ node: 'edge-b1', host: target, port: echoPort }])
  await lab.startAgent('edge-b1')
  agent = await lab.startAgent('edge-a1')
  await eventually(20_000, async () => {
    assert.equal((await roundTrips()).length, 2)
  })
  await eventually(20_000, async () => assert.equal(await bodyFrom(client, url, '--max-time', '2'), 'edge-b1'))
})
after(() => lab?.[Symbol.asyncDispose]())
afterEach(async () => assert.equal(await streamFlowsOf(client), 0, 'no flow begins on a stream'))

async function pathNow(): Promise<string> {
  const path = (await quickStatusOf(client)).tunnel?.peers.find(({ name }) => name === 'edge-b1')?.path
  return path?.kind === 'relayed' ? path.via : (path?.kind ?? 'unknown')
}

/** Which server relays to the web server, and which one does not. */
async function relaysNow() {
  await requests(1)
  const used = (await pathNow()) === addressOf('relay') ? 'relay' : 'relay-2'
  return { used, other: used === 'relay' ? 'relay-2' : 'relay' } as const
}

/** The servers that are connected, and how far they are. */
async function roundTrips(): Promise<string[]> {
  const connected = (await quickStatusOf(client)).tunnel?.servers.filter((server) => server.connected) ?? []
  return connected.map(({ address, roundTripMs }) => `${address} ${roundTripMs?.toFixed(1)} ms`)
}

const addressOf = (name: 'relay' | 'relay-2') => `${lab.node(name).address}:20004`

/** Which server carries what is on its way now; others have links as well, and say more on them for a moment after a change. */
async function relaysUnderFlow() {
  const sent = async (relay: 'relay' | 'relay-2') => {
    const { stdout } = await client.exec(['ss', '-tinH', 'dst', lab.node(relay).address])
    return [...stdout.matchAll(/bytes_sent:(\d+)/g)].reduce((sum, [, bytes]) => sum + Number(bytes), 0)
  }
  let more: readonly [number, number] = [0, 0]
  await eventually(20_000, async () => {
    const before = [await sent('relay'), await sent('relay-2')] as const
    await delay(1_000)
    more = [(await sent('relay')) - before[0], (await sent('relay-2')) - before[1]]
    assert.ok(Math.max(...more) > 2 * Math.min(...more), `one carries it: ${more.join(', ')} bytes`)
  })
  return more[0] > more[1]
    ? ({ used: 'relay', other: 'relay-2' } as const)
    : ({ used: 'relay-2', other: 'relay' } as const)
}

/** How long each of some requests took, one after the other; all must be answered. */
async function requests(count: number): Promise<number[]> {
  const times: number[] = []
  for (let request = 0; request < count; request++) {
    const { code, stdout, stderr, ms } = await fetchFrom(client, url)
    assert.equal(code, 0, stderr)
    assert.equal(stdout.trim(), 'edge-b1')
    times.push(Math.round(ms))
  }
  return times
}

/** Says when a silent relay was given up, by the clock of the agent's log; 12 s are what a flow over a line in doubt is kept. */
async function givenUpAfter(relay: 'relay' | 'relay-2', sinceMs: number): Promise<number> {
  const line = await eventuallyLine(agent, (text) => {
    const { time, address, msg } = JSON.parse(text) as Readonly<Record<string, string>>
    return msg === 'server not connected' && address === addressOf(relay) && Date.parse(time ?? '') >= sinceMs
  })
  const ms = Date.parse(String(Reflect.get(Object(JSON.parse(line)), 'time'))) - sinceMs
  assert.ok(ms < 8_000, `${ms} ms: ${line}`)
  return ms
}

async function eventuallyLine(process: LabProcess, holds: (line: string) => boolean): Promise<string> {
  let found: string | undefined
  await eventually(30_000, async () => {
    found = process
      .output()
      .split('\n')
      .find((line) => line.startsWith('{') && holds(line))
    assert.ok(found !== undefined)
  })
  return found ?? ''
}

const listOf = (times: readonly number[]) => `${times.join(', ')} ms`

describe('two servers', () => {
  test('a silent one costs new flows little, and is given up; both are used again when it goes on', async (t) => {
    const { used, other } = await relaysNow()
    t.diagnostic((await roundTrips()).join(', '))
    servers[used].kill('SIGSTOP')
    t.diagnostic(`requests after the relay fell silent: ${listOf(await requests(10))}`)
    assert.equal(await pathNow(), addressOf(other))
    const goneMs = await eventually(40_000, async () => assert.equal((await roundTrips()).length, 1))
    t.diagnostic(`it was given up ${goneMs.toFixed(0)} ms after these`)
    servers[used].kill('SIGCONT')
    const backMs = await eventually(60_000, async () => assert.equal((await roundTrips()).length, 2))
    t.diagnostic(`both are connected again ${backMs.toFixed(0)} ms after it went on`)
    await requests(5)
  })

  for (const [what, silence, speak] of [
    ['process stands still', (relay) => servers[relay].kill('SIGSTOP'), (relay) => servers[relay].kill('SIGCONT')],
    ['machine vanishes', (relay) => lab.cutWan(relay), (relay) => lab.restoreWan(relay)],
  ] satisfies [string, Change, Change][]) {
    test(`one whose ${what} under a flow is given up within 5 s, and the flow ends or goes on elsewhere`, async (t) => {
      await using flow = await startSteadyFlow(client, echoAddress, 80)
      const { used } = await relaysUnderFlow()
      const sinceMs = Date.now()
      await silence(used)
      try {
        t.diagnostic(`given up after ${await givenUpAfter(used, sinceMs)} ms`)
        await Promise.race([flow.ended(20_000), flow.carries(20_000)])
        t.diagnostic(`the flow ended or went on after ${Date.now() - sinceMs} ms`)
      } finally {
        await speak(used)
      }
      await eventually(60_000, async () => assert.equal((await roundTrips()).length, 2))
    })
  }

  test('the only one left is given up within 5 s as well while its machine answers', async (t) => {
    await using _flow = await startSteadyFlow(client, echoAddress, 80)
    const { used, other } = await relaysUnderFlow()
    await servers[other].stop('SIGKILL')
    const sinceMs = Date.now()
    servers[used].kill('SIGSTOP')
    t.diagnostic(`given up after ${await givenUpAfter(used, sinceMs)} ms`)
    servers[used].kill('SIGCONT')
    servers[other] = await lab.startServer(other)
    await eventually(60_000, async () => assert.equal((await roundTrips()).length, 2))
  })

  test('a pause of the own line, in which nobody is heard, breaks no flow', async () => {
    await using flow = await startSteadyFlow(client, echoAddress, 80)
    await lab.cutWan('a')
    await delay(5_000)
    await lab.restoreWan('a')
    await flow.carries(20_000)
    await eventually(20_000, async () => assert.equal((await roundTrips()).length, 2))
  })

  test('a killed one is replaced at once', async (t) => {
    const { used } = await relaysNow()
    await servers[used].stop('SIGKILL')
    t.diagnostic(`requests after the kill: ${listOf(await requests(10))}`)
    servers[used] = await lab.startServer(used)
    await eventually(20_000, async () => assert.equal((await roundTrips()).length, 2))
  })
})

describe('change', () => {
  test('an agent that was suspended for a while answers again soon', async (t) => {
    agent.kill('SIGSTOP')
    await delay(8_000)
    agent.kill('SIGCONT')
    const ms = await eventually(15_000, async () => void (await requests(1)))
    t.diagnostic(`first answer ${ms.toFixed(0)} ms after it went on`)
  })

  test('a link that flaps is used again soon after it stays up', async (t) => {
    for (let round = 0; round < 5; round++) {
      await lab.cutWan('a')
      await delay(300)
      await lab.restoreWan('a')
      await delay(300)
    }
    const ms = await eventually(20_000, async () => void (await requests(1)))
    t.diagnostic(`first answer ${ms.toFixed(0)} ms after the last change`)
    t.diagnostic(`then: ${listOf(await requests(5))}`)
  })

  test('an agent whose address changes is reached again', async (t) => {
    const script = [
      // The old one first: with it would go all others of its subnet that came later.
      'ip addr del 192.168.1.11/24 dev eth0',
      'ip addr add 192.168.1.77/24 dev eth0',
      'ip route replace default via 192.168.1.1',
    ].join(' && ')
    const { code, stderr } = await client.exec(['sh', '-c', script])
    assert.equal(code, 0, stderr)
    const ms = await eventually(60_000, async () => void (await requests(1)))
    t.diagnostic(`first answer ${ms.toFixed(0)} ms after the change`)
  })
})
