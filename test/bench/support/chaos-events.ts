/** What happens to the mesh of a chaos run. Each event ends by itself, and leaves what it found. */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { parse, stringify } from 'yaml'
import { repeatableRandom } from '../../../src/runtime/repeatable-random.fixture.ts'
import { configFileOf } from '../../e2e/support/site.ts'
import type { Host } from '../../lab/index.ts'
import { type AgentNode, agentNodes, type ChaosSite, lanOf, type ServerNode, serverNodes } from './chaos-site.ts'
import type { Timeline } from './chaos-timeline.ts'

/** Draws what is the same for the same seed. */
export class Dice {
  /** From 0 to less than 1. */
  readonly roll: () => number

  constructor(seed: number) {
    this.roll = repeatableRandom(seed)
  }

  between(least: number, most: number): number {
    return least + this.roll() * (most - least)
  }

  pick<T>(items: readonly T[]): T {
    const item = items[Math.floor(this.roll() * items.length)]
    assert.ok(item !== undefined)
    return item
  }
}

export interface ChaosEvent {
  readonly what: string
  /** Events that need the same thing do not happen at the same time. */
  readonly needs: readonly string[]
  readonly run: () => Promise<void>
}

const lans = ['a', 'b', 'c'] as const
const edgeNodes = agentNodes.filter((node) => lanOf[node] !== undefined)

export type EventMaker = (site: ChaosSite, timeline: Timeline, dice: Dice) => ChaosEvent

/** By name, each with how often it is chosen. */
export const eventMakers: Readonly<Record<string, readonly [weight: number, EventMaker]>> = {
  'cut-wan': [3, cutWan],
  'silent-wan': [2, silentWan],
  'reset-wan': [2, resetWan],
  'lossy-wan': [1, lossyWan],
  flap: [1, flap],
  renumber: [2, renumber],
  'stop-relay': [2, stopRelay],
  'vanish-relay': [2, vanishRelay],
  'pause-relay': [1, pauseRelay],
  'change-address': [2, changeAddress],
  'pull-cable': [1, pullCable],
  'restart-agent': [2, restartAgent],
  'pause-agent': [2, pauseAgent],
  reload: [2, reload],
  endpoints: [2, endpoints],
  'vanish-cloud': [1, vanishCloud],
}

function cutWan(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const lan = dice.pick(lans)
  const seconds = dice.between(1, 40)
  const what = `cut the line of ${lan} for ${seconds.toFixed(1)} s`
  return {
    what,
    needs: [`lan ${lan}`],
    async run() {
      const trouble = timeline.begin({ what, lans: [lan] })
      await site.lab.cutWan(lan)
      await delay(seconds * 1_000)
      await site.lab.restoreWan(lan)
      trouble.end()
    },
  }
}

function silentWan(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const lan = dice.pick(lans)
  const seconds = dice.between(1, 40)
  const side = dice.pick(['oifname "wan0" drop', 'iifname "wan0" drop', 'oifname "wan0" drop; iifname "wan0" drop'])
  const what = `drop at router ${lan} (${side}) for ${seconds.toFixed(1)} s`
  return withRules(site, timeline, { what, lan, seconds, rules: side, isSoft: false })
}

function resetWan(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const lan = dice.pick(lans)
  const seconds = dice.between(0.5, 12)
  const what = `reset at router ${lan} for ${seconds.toFixed(1)} s`
  const rules = 'meta l4proto tcp reject with tcp reset; meta l4proto udp drop'
  return withRules(site, timeline, { what, lan, seconds, rules, isSoft: false })
}

function lossyWan(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const lan = dice.pick(lans)
  const seconds = dice.between(5, 20)
  const percent = Math.round(dice.between(2, 25))
  const what = `lose ${percent} % at router ${lan} for ${seconds.toFixed(1)} s`
  const rules = `numgen random mod 100 < ${percent} drop`
  return withRules(site, timeline, { what, lan, seconds, rules, isSoft: true })
}

function withRules(
  site: ChaosSite,
  timeline: Timeline,
  options: { what: string; lan: string; seconds: number; rules: string; isSoft: boolean },
): ChaosEvent {
  const { what, lan, seconds, rules, isSoft } = options
  return {
    what,
    needs: [`lan ${lan}`],
    async run() {
      const router = site.router(lan)
      const trouble = timeline.begin({ what, lans: [lan], isSoft })
      await nft(
        router,
        `table inet chaos { chain forward { type filter hook forward priority filter - 1; ${rules}; }; }\n`,
      )
      await delay(seconds * 1_000)
      await nft(router, 'delete table inet chaos\n')
      trouble.end()
    },
  }
}

function flap(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const lan = dice.pick(lans)
  const times = Math.round(dice.between(3, 12))
  const pauses = Array.from({ length: 2 * times }, () => dice.between(100, 1_500))
  const what = `flap the line of ${lan} ${times} times`
  return {
    what,
    needs: [`lan ${lan}`],
    async run() {
      const trouble = timeline.begin({ what, lans: [lan] })
      for (const [at, pause] of pauses.entries()) {
        await (at % 2 === 0 ? site.lab.cutWan(lan) : site.lab.restoreWan(lan))
        await delay(pause)
      }
      trouble.end()
    },
  }
}

const publicAddresses = new Map<string, number>()

/** The router loses its address and its table of connections, and has the same address or another one at once. */
function renumber(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const lan = dice.pick(lans)
  const isNew = dice.roll() < 0.5
  const isLoose = dice.roll() < 0.5
  const what = `flush the NAT of ${lan}${isNew ? ' and renumber it' : ''}, ${isLoose ? 'loose' : 'strict'}`
  return {
    what,
    needs: [`lan ${lan}`],
    async run() {
      const own = 10 + lans.indexOf(lan)
      const now = publicAddresses.get(lan) ?? own
      const next = isNew ? (now === own ? own + 50 : own) : now
      publicAddresses.set(lan, next)
      const script = [
        `echo ${isLoose ? 1 : 0} > /proc/sys/net/netfilter/nf_conntrack_tcp_loose`,
        `ip addr del 203.0.113.${now}/24 dev wan0`,
        `ip addr add 203.0.113.${next}/24 dev wan0`,
        'ip route replace default via 203.0.113.1',
      ]
      const trouble = timeline.begin({ what, lans: [lan] })
      await shell(site.router(lan), script.join('\n'))
      trouble.end()
    },
  }
}

function stopRelay(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const relay = dice.pick(serverNodes)
  const signal = dice.pick(['SIGTERM', 'SIGKILL'] as const)
  const seconds = dice.pick([0, dice.between(1, 12)])
  const what = `${signal} to ${relay}, away for ${seconds.toFixed(1)} s`
  return {
    what,
    needs: [relay],
    async run() {
      const trouble = timeline.begin({ what, relays: [relay] })
      const server = site.processOf(relay)
      site.servers.delete(relay)
      const exit = await server.stop(signal, 20_000)
      if (signal === 'SIGTERM' && exit.code !== 0) throw new Error(`${relay} does not stop: ${JSON.stringify(exit)}`)
      await delay(seconds * 1_000)
      await site.startServer(relay)
      trouble.end()
    },
  }
}

function vanishRelay(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const relay = dice.pick(serverNodes)
  const seconds = dice.between(2, 40)
  const what = `${relay} vanishes for ${seconds.toFixed(1)} s`
  return {
    what,
    needs: [relay],
    async run() {
      const trouble = timeline.begin({ what, relays: [relay] })
      await site.lab.cutWan(relay)
      await delay(seconds * 1_000)
      await site.lab.restoreWan(relay)
      trouble.end()
    },
  }
}

function pauseRelay(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const relay = dice.pick(serverNodes)
  return pauseProcess(site, timeline, { relay, seconds: dice.between(1, 20) })
}

function pauseAgent(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  return pauseProcess(site, timeline, { node: dice.pick(agentNodes), seconds: dice.between(1, 20) })
}

function pauseProcess(
  site: ChaosSite,
  timeline: Timeline,
  { relay, node, seconds }: { relay?: ServerNode; node?: AgentNode; seconds: number },
): ChaosEvent {
  const name = relay ?? node ?? 'relay'
  const what = `pause ${name} for ${seconds.toFixed(1)} s`
  return {
    what,
    needs: [name],
    async run() {
      const trouble = timeline.begin({ what, ...(relay && { relays: [relay] }), ...(node && { nodes: [node] }) })
      const paused = site.processOf(name)
      paused.kill('SIGSTOP')
      await delay(seconds * 1_000)
      paused.kill('SIGCONT')
      trouble.end()
    },
  }
}

const hostNumbers = new Map<AgentNode, number>()

function changeAddress(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const node = dice.pick(edgeNodes)
  const what = `another address for ${node}`
  return {
    what,
    needs: [node],
    async run() {
      const host = site.lab.node(node)
      const [base, first] = [host.address.replace(/\d+$/, ''), Number(host.address.split('.')[3])]
      const now = hostNumbers.get(node) ?? first
      const next = now >= 200 ? first : now + 20
      hostNumbers.set(node, next)
      const script = [
        `ip addr del ${base}${now}/24 dev eth0`,
        `ip addr add ${base}${next}/24 dev eth0`,
        `ip route replace default via ${base}1`,
      ]
      const trouble = timeline.begin({ what, nodes: [node] })
      await shell(host, script.join('\n'))
      trouble.end()
    },
  }
}

/** The node's own interface stays up: only its router notices. */
function pullCable(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const node = dice.pick(edgeNodes)
  const seconds = dice.between(1, 35)
  const what = `pull the cable of ${node} for ${seconds.toFixed(1)} s`
  return {
    what,
    needs: [node],
    async run() {
      const trouble = timeline.begin({ what, nodes: [node] })
      const router = site.router(lanOf[node] ?? '')
      const port = node === 'edge-a2' ? 'port1' : 'port0'
      await shell(router, `ip link set ${port} down`)
      await delay(seconds * 1_000)
      await shell(router, `ip link set ${port} up`)
      trouble.end()
    },
  }
}

function restartAgent(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const node = dice.pick(agentNodes)
  const signal = dice.pick(['SIGTERM', 'SIGKILL'] as const)
  const seconds = dice.pick([0, dice.between(1, 10)])
  const paths = dice.pick([{}, {}, {}, {}, {}, { relayOnly: true }, { noPunch: true }])
  const what = `${signal} to ${node}, away for ${seconds.toFixed(1)} s, then ${JSON.stringify(paths)}`
  return {
    what,
    needs: [node],
    async run() {
      const trouble = timeline.begin({ what, nodes: [node], restarted: [node] })
      const agent = site.processOf(node)
      site.agents.delete(node)
      const exit = await agent.stop(signal, 30_000)
      if (signal === 'SIGTERM' && exit.code !== 0) throw new Error(`${node} does not stop: ${JSON.stringify(exit)}`)
      await delay(seconds * 1_000)
      await site.startAgent(node, paths)
      trouble.end()
      timeline.relayOnly(node, 'relayOnly' in paths)
      site.limitedPaths.set(node, Object.keys(paths))
    },
  }
}

/** One agent takes a server or relay out of its configuration for a while. */
function reload(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const node = dice.pick(agentNodes)
  const part = dice.pick(['relayNodes', 'first server', 'second server'])
  const seconds = dice.between(1, 20)
  const what = `${node} without ${part} for ${seconds.toFixed(1)} s`
  return {
    what,
    // Without the other one it would have none.
    needs: part === 'relayNodes' ? [node] : [node, ...serverNodes],
    async run() {
      const note = timeline.begin({ what })
      const file = configFileOf(site.lab.node(node))
      const before = await readFile(file, 'utf8')
      const document = parse(before)
      const tunnel = document.modules.edgeTunnel
      if (part === 'relayNodes') tunnel.relayNodes = []
      else tunnel.servers.splice(part === 'first server' ? 0 : 1, 1)
      await writeFile(file, stringify(document))
      await delay(seconds * 1_000)
      await writeFile(file, before)
      note.end()
    },
  }
}

/** The Service with several endpoints loses one, and has it again. */
function endpoints(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const left = site.spreadNodes.filter(() => dice.roll() < 0.6)
  const nodes = left.length === 0 ? [dice.pick(site.spreadNodes)] : left
  const seconds = dice.between(1, 10)
  const what = `endpoints only at ${nodes.join(', ')} for ${seconds.toFixed(1)} s`
  return {
    what,
    needs: ['spread'],
    async run() {
      const note = timeline.begin({ what })
      await site.writeSpread(nodes)
      await delay(seconds * 1_000)
      await site.writeSpread(site.spreadNodes)
      note.end()
    },
  }
}

/** The agent that relays for others is away, with its machine. */
function vanishCloud(site: ChaosSite, timeline: Timeline, dice: Dice): ChaosEvent {
  const seconds = dice.between(1, 30)
  const what = `cloud-1 vanishes for ${seconds.toFixed(1)} s`
  return {
    what,
    needs: ['cloud-1'],
    async run() {
      const trouble = timeline.begin({ what, nodes: ['cloud-1'] })
      await site.lab.cutWan('cloud-1')
      await delay(seconds * 1_000)
      await site.lab.restoreWan('cloud-1')
      trouble.end()
    },
  }
}

async function nft(host: Host, rules: string): Promise<void> {
  const { code, stderr } = await host.exec(['nft', '-f', '-'], { input: rules })
  assert.equal(code, 0, stderr)
}

async function shell(host: Host, script: string): Promise<void> {
  const { code, stderr } = await host.exec(['sh', '-ec', script])
  assert.equal(code, 0, stderr)
}
