/**
 * Traffic of all kinds between the nodes of three sites while lines, routers, servers and agents fail at random:
 *
 *     scripts/isolated scripts/with-node test/bench/chaos.ts SEED [MINUTES] [EVENT...]
 *
 * The same seed has the same events in the same order. What must not be is printed with the time, and makes the exit code 1: wrong
 * bytes; kept flows that end though the way was away for less than `resumeSeconds`, or stand still; new requests that fail more
 * than 5 s after all is mended; paths that are not the best again after a minute; processes that end by themselves; error lines;
 * open files, flows or memory that do not come back. The logs are in EDGEMESH_CHAOS_LOGS, or a folder below /tmp that is named.
 */
import { readdir, readFile, readlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { requestControl } from '../../src/net/index.ts'
import { quickStatusOf } from '../e2e/support/site.ts'
import { type ChaosEvent, Dice, eventMakers } from './support/chaos-events.ts'
import { judge, type Report, renderViolation, type Violation } from './support/chaos-judge.ts'
import {
  type AgentNode,
  agentNodes,
  isDirectable,
  lanOf,
  type ServerNode,
  serverNodes,
  startChaosSite,
} from './support/chaos-site.ts'
import { clock, Timeline } from './support/chaos-timeline.ts'

const [seedText = '1', minutesText = '4', ...only] = process.argv.slice(2)
const seed = Number(seedText)
const folder = process.env['EDGEMESH_CHAOS_LOGS'] ?? join(tmpdir(), `edgemesh-chaos-${seed}-${process.pid}`)
const calmMs = 62_000
const drainMs = 75_000
const drainPatienceMs = 60_000
const openFilesTolerance = 6
/** Connections of the library through a relay that two nodes keep until it ends: both of them may have made some. */
const idleCircuits = 4
const mostBytes = { agent: 260e6, server: 220e6 } as const

const dice = new Dice(seed)
const violations: Violation[] = []
const timeline = new Timeline({ lanOf, relays: serverNodes })
const ended = new AbortController()

await using site = await startChaosSite(folder, seed)
print(`seed ${seed}, logs in ${folder}`)
print(`whole after ${((await site.untilWhole(90_000)) / 1000).toFixed(1)} s`)
await delay(3_000)
const before = new Map(
  await Promise.all([...agentNodes, ...serverNodes].map(async (node) => [node, await filesOf(node)] as const)),
)
const peaks = new Map<string, number>()
const watching = Promise.all([watchProcesses(), watchMachine()])
const warmUp = timeline.begin({ what: 'the first seconds', nodes: agentNodes, isSoft: true })
site.startClients()
await delay(12_000)
warmUp.end()
await cause(Number(minutesText) * 60_000)
say('calm')
await delay(calmMs)
await judgePaths()
await endTraffic()
await judgeRest()
ended.abort()
await watching
await judgeReports()
await judgeLogs()
print(`most memory: ${[...peaks].map(([name, bytes]) => `${name} ${(bytes / 1e6).toFixed(0)} MB`).join(', ')}`)
for (const violation of violations.sort((a, b) => a.at - b.at)) print(renderViolation(seed, violation))
print(`${violations.length} violations, seed ${seed}`)
process.exitCode = violations.length === 0 ? 0 : 1

/** Lets one event follow the other, some at the same time. */
async function cause(forMs: number): Promise<void> {
  const busy = new Set<string>()
  const running = new Set<Promise<void>>()
  const names = Object.entries(eventMakers).filter(([name]) => only.length === 0 || only.includes(name))
  const bag = names.flatMap(([, [weight, make]]) => Array.from({ length: weight }, () => make))
  for (const untilMs = Date.now() + forMs; Date.now() < untilMs; ) {
    const event = dice.pick(bag)(site, timeline, dice)
    const isAlone = dice.roll() < 0.7
    const pauseMs = dice.between(1_000, 15_000)
    if (event.needs.some((need) => busy.has(need))) continue
    const run = happen(event, busy)
    running.add(run)
    void run.then(() => running.delete(run))
    if (isAlone) await run
    await delay(pauseMs)
  }
  await Promise.all(running)
}

async function happen(event: ChaosEvent, busy: Set<string>): Promise<void> {
  for (const need of event.needs) busy.add(need)
  say(`begins: ${event.what}`)
  try {
    await event.run()
  } catch (error) {
    violations.push({
      at: Date.now(),
      what: `${event.what}: ${error instanceof Error ? error.message : String(error)}`,
    })
  }
  say(`is over: ${event.what}`)
  for (const need of event.needs) busy.delete(need)
}

/** After a minute without any event, with traffic. */
async function judgePaths(): Promise<void> {
  const flows = new Map<string, number>()
  for (const from of agentNodes) {
    const status = await quickStatusOf(site.lab.node(from))
    const { servers = [], peers = [] } = status.tunnel ?? {}
    for (const { address, connected, reserved, lastError } of servers) {
      const isOwn = address.startsWith(`${site.lab.node(from).address}:`)
      if (!isOwn && !(connected && reserved)) wrong(`${from} has no server ${address}: ${lastError}`)
    }
    if (peers.length !== agentNodes.length - 1) wrong(`${from} knows ${peers.length} peers`)
    for (const { name, path, openFlows, lastError } of peers) {
      const to = name as AgentNode
      flows.set(`${from}>${to}`, openFlows)
      const isDirect = path.kind !== 'relayed' && path.kind !== 'none'
      if (isDirectNow(from, to) && !isDirect) {
        wrong(`${from} to ${to} is ${path.kind} ${calmMs} ms after the last event: ${lastError}`)
      }
      if (path.kind === 'none' || (isDirect && limitsOf(from, to).includes('relayOnly'))) {
        wrong(`${from} to ${to} is ${path.kind}: ${lastError}`)
      }
      if (
        (path.kind === 'lan' || path.kind === 'direct' || path.kind === 'punched') &&
        !(await isConnected(from, path.address))
      ) {
        wrong(`${from} says that ${to} is ${path.kind} via ${path.address}, but has no such connection`)
      }
    }
  }
  for (const [pair, count] of flows) {
    const [from = '', to = ''] = pair.split('>')
    const other = flows.get(`${to}>${from}`) ?? 0
    if (from < to && Math.abs(count - other) > 5)
      wrong(`${from} counts ${count} flows with ${to}, which counts ${other}`)
  }
  print(`flows: ${[...flows].map(([pair, count]) => `${pair} ${count}`).join(', ')}`)
}

function limitsOf(from: AgentNode, to: AgentNode): readonly string[] {
  return [...(site.limitedPaths.get(from) ?? []), ...(site.limitedPaths.get(to) ?? [])]
}

/** What a minute without any event should have led to. */
function isDirectNow(from: AgentNode, to: AgentNode): boolean {
  const limits = limitsOf(from, to)
  if (limits.includes('relayOnly')) return false
  const isPunched = lanOf[from] !== lanOf[to] && lanOf[from] !== undefined && lanOf[to] !== undefined
  return isDirectable(from, to) && !(isPunched && limits.includes('noPunch'))
}

async function isConnected(node: AgentNode, address: string): Promise<boolean> {
  const host = /\d+\.\d+\.\d+\.\d+/.exec(address)?.[0] ?? address
  const { stdout } = await site.lab.node(node).exec(['ss', '-tnH', 'state', 'established', 'dst', host])
  return stdout.trim() !== ''
}

async function endTraffic(): Promise<void> {
  say('ends the traffic')
  for (const client of site.clients.values()) client.kill('SIGUSR2')
  const late = delay(100_000, 'late')
  const outcome = await Promise.race([Promise.all([...site.clients.values()].map(({ exited }) => exited)), late])
  if (outcome === 'late') wrong('clients do not end')
  say('no traffic')
}

/** What is left a while after the traffic has ended. */
async function judgeRest(): Promise<void> {
  await delay(drainMs)
  let left: string[] = []
  for (const untilMs = Date.now() + drainPatienceMs; Date.now() < untilMs; await delay(5_000)) {
    left = await leftovers()
    if (left.length === 0) break
  }
  for (const each of left) wrong(`left behind: ${each}`)
  for (const [node, web] of site.webs) {
    web.kill('SIGUSR2')
    await delay(100)
    const lines = web
      .output()
      .split('\n')
      .filter((line) => line.includes('"open"'))
    if (!lines.at(-1)?.includes('"count":0')) wrong(`left behind: flows at web-${node}: ${lines.at(-1)}`)
  }
}

async function leftovers(): Promise<string[]> {
  const left: string[] = []
  for (const node of agentNodes) {
    const { proxy, tunnel } = await quickStatusOf(site.lab.node(node))
    if ((proxy?.openConnections ?? 0) > 0) left.push(`${node}: ${proxy?.openConnections} connections of the proxy`)
    const links = await linksOf(node)
    if (links !== '') left.push(`${node}: links: ${links}`)
    for (const { name, openFlows } of tunnel?.peers ?? [])
      if (openFlows > 0) left.push(`${node}: ${openFlows} flows with ${name}`)
  }
  for (const node of serverNodes) {
    const { server } = await quickStatusOf(site.lab.node(node), 'server')
    for (const { nodes, open } of server?.relayed ?? [])
      if (open > idleCircuits) left.push(`${node}: ${open} relayed connections of ${nodes.join(' and ')}`)
  }
  for (const node of [...agentNodes, ...serverNodes]) {
    const [now, then] = [await filesOf(node), before.get(node) ?? []]
    if (now.length > then.length + openFilesTolerance) {
      left.push(`${node}: ${now.length} open files, ${then.length} before: ${countsOf(then)} became ${countsOf(now)}`)
    }
  }
  return left
}

/** By kind and path. */
async function linksOf(node: AgentNode): Promise<string> {
  const socket = join(site.lab.node(node).dir, 'agent', 'run', 'control.sock')
  const { body } = await requestControl(socket, { method: 'GET', url: '/metrics' })
  return [...body.matchAll(/^edgemesh_tunnel_links\{kind="(\w+)",path="(\w+)"\} ([1-9]\d*)/gm)]
    .map(([, kind, path, count]) => `${count} ${kind} ${path}`)
    .join(', ')
}

async function filesOf(node: AgentNode | ServerNode): Promise<string[]> {
  const dir = `/proc/${site.processOf(node).pid}/fd`
  const links = await Promise.all((await readdir(dir)).map((fd) => readlink(join(dir, fd)).catch(() => '')))
  return links.filter((link) => link !== '')
}

function countsOf(links: readonly string[]): string {
  const counts = new Map<string, number>()
  for (const link of links) {
    const kind = link.replace(/:\[\d+\]$/, '')
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return [...counts].map(([kind, count]) => `${count} ${kind}`).join(' ')
}

async function watchProcesses(): Promise<void> {
  const said = new Set<number>()
  while (!ended.signal.aborted) {
    for (const [name, { pid, exit }] of [...site.agents, ...site.servers]) {
      if (exit !== undefined && !said.has(pid)) {
        said.add(pid)
        wrong(`${name} has ended by itself: ${JSON.stringify(exit)}`)
        timeline.mark({ what: `${name} has ended`, nodes: [name], restarted: [name] })
        await revive(name)
      }
      const text = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
      const bytes = 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(text)?.[1] ?? 0)
      const most = Math.max(bytes, peaks.get(name) ?? 0)
      peaks.set(name, most)
      const limit = name.startsWith('relay') ? mostBytes.server : mostBytes.agent
      if (bytes > limit && !said.has(-pid)) {
        said.add(-pid)
        wrong(`${name} takes ${(bytes / 1e6).toFixed(0)} MB`)
      }
    }
    await delay(2_000, undefined, { signal: ended.signal }).catch(() => {})
  }
}

/** So that the run can go on. */
async function revive(name: AgentNode | ServerNode): Promise<void> {
  const isServer = (node: string): node is ServerNode => serverNodes.some((each) => each === node)
  if (isServer(name)) await site.startServer(name)
  else await site.startAgent(name)
}

/** Nobody is to blame for what happens while this process gets no time. */
async function watchMachine(): Promise<void> {
  for (let last = Date.now(); !ended.signal.aborted; ) {
    await delay(250, undefined, { signal: ended.signal }).catch(() => {})
    const lag = Date.now() - last - 250
    if (lag > 1_000) {
      timeline.mark({ what: `the machine stood still for ${lag} ms`, nodes: agentNodes, isSoft: true })
      say(`the machine stood still for ${lag} ms`)
    }
    last = Date.now()
  }
}

async function judgeReports(): Promise<void> {
  const totals: Record<string, number> = {}
  for (const node of agentNodes) {
    const reports = linesOf(await readFile(join(folder, `client-${node}.log`), 'utf8'))
    const last = reports.at(-1)
    if (last?.what !== 'totals') wrong(`the client of ${node} says nothing at its end: ${JSON.stringify(last)}`)
    for (const [key, value] of Object.entries(last ?? {}))
      if (key !== 't' && typeof value === 'number') totals[key] = (totals[key] ?? 0) + value
    for (const report of reports) {
      const violation = judge(node, report, timeline)
      if (violation !== undefined) violations.push(violation)
    }
  }
  for (const [node, web] of site.webs) {
    for (const report of linesOf(web.output())) {
      const violation = judge(`web-${node}`, report, timeline)
      if (violation !== undefined) violations.push(violation)
    }
  }
  print(`totals: ${JSON.stringify(totals)}`)
}

function linesOf(text: string): Report[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Report)
}

async function judgeLogs(): Promise<void> {
  for (const node of [...agentNodes, ...serverNodes]) {
    const warnings = new Map<string, number>()
    for (const line of (await readFile(site.logOf(node), 'utf8')).split('\n')) {
      if (line === '') continue
      if (!line.startsWith('{')) {
        violations.push({ at: Date.now(), what: `${node} says: ${line}` })
        continue
      }
      const { level, msg, time, ...rest } = JSON.parse(line)
      if (level === 'warn') warnings.set(msg, (warnings.get(msg) ?? 0) + 1)
      if (level === 'error')
        violations.push({ at: Date.parse(time), what: `${node} logs the error "${msg}": ${JSON.stringify(rest)}` })
    }
    print(`warnings of ${node}: ${[...warnings].map(([msg, count]) => `${count} × ${msg}`).join(', ') || 'none'}`)
  }
}

function wrong(what: string): void {
  violations.push({ at: Date.now(), what })
  say(`wrong: ${what}`)
}

function say(line: string): void {
  print(`${clock(Date.now())} ${line}`)
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
