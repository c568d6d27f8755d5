import { execFile } from 'node:child_process'
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { AgentConfig, ServerConfig } from '../../src/config/index.ts'
import { type DeepPartial, EdgemeshLauncher, type LaunchOptions } from './edgemesh.ts'
import { Host } from './host.ts'
import { prepareResolverFile, requireIsolation } from './isolation.ts'
import type { LabProcess } from './lab-process.ts'
import { startLongLine } from './long-line.ts'
import { createManifestFolder, type ManifestStore } from './manifests.ts'
import { type HostPlan, type LabPlan, type LabSpec, type Plug, planLab, upstreamDnsAddress } from './topology.ts'

const setUpTimeoutMs = 20_000

/**
 * Builds the network and starts the resolver on its WAN. Disposal ends every process in it, and removes its
 * namespaces and files. Rejects outside scripts/isolated.
 */
export async function createLab(spec: LabSpec): Promise<Lab> {
  await requireIsolation()
  await prepareResolverFile()
  const lab = new Lab(planLab(spec))
  await claimDir(lab.dir)
  try {
    await lab.build(spec.dnsRecords ?? { 'upstream.example': '198.51.100.7' })
    return lab
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}

/** A running network of namespaces. */
export class Lab implements AsyncDisposable {
  /** In memory; gone with the lab. */
  readonly dir = `/run/edgemesh-lab/${process.pid}`
  /** The folder of Kubernetes manifests that all agents watch. */
  readonly manifests = join(this.dir, 'manifests')
  readonly #plan: LabPlan
  readonly #hosts: ReadonlyMap<string, Host>
  readonly #edgemesh: EdgemeshLauncher
  readonly #lines = new AsyncDisposableStack()
  #store: ManifestStore = createManifestFolder(this.manifests)

  constructor(plan: LabPlan) {
    this.#plan = plan
    this.#hosts = new Map(
      plan.hosts.map((host) => [host.name, new Host(host, netnsOf(host.name), join(this.dir, 'hosts', host.name))]),
    )
    this.#edgemesh = new EdgemeshLauncher(this.dir, () => this.#store.kubeAPIConfig)
  }

  /** A node: of a LAN or of the cloud. */
  node(name: string): Host {
    return this.#hostOfKind(name, 'node')
  }

  /** A pod of any node. */
  pod(name: string): Host {
    return this.#hostOfKind(name, 'pod')
  }

  /** The router of a LAN: interfaces `lan0` and `wan0`. */
  router(lan: string): Host {
    return this.#hostOfKind(`router-${lan}`, 'router')
  }

  /** The internet: bridge `wan0`, where the resolver runs. */
  get wan(): Host {
    return this.#hostOfKind('wan', 'wan')
  }

  /** Pulls the cable between the WAN and a LAN's router, or a cloud node. */
  async cutWan(name: string): Promise<void> {
    await this.#setUplink(name, 'down')
  }

  /** Plugs the cable in again. */
  async restoreWan(name: string): Promise<void> {
    await this.#setUplink(name, 'up')
  }

  /**
   * Moves a LAN's router far away from everybody on the WAN: its cable becomes a long line, for the rest of the lab's life. What
   * is open through it ends.
   */
  async stretchWan(lan: string, oneWayMs: number): Promise<void> {
    const [router, device] = [this.router(lan), `far-${lan}`]
    const own = netnsOf(router.name)
    await ip(['link del wan0'], ['-n', own])
    const ends = [
      { host: this.wan, device },
      { host: router, device: 'wan0' },
    ] as const
    this.#lines.use(await startLongLine(ends, { oneWayMs, dir: this.dir }))
    await ip([`addr add ${router.address}/24 dev wan0`, 'link set wan0 up', 'route add default dev wan0'], ['-n', own])
    await ip([`link set ${device} up`, `route add ${router.address}/32 dev ${device}`], ['-n', netnsOf(this.wan.name)])
    // Who is on the WAN looks for the router there.
    await this.wan.exec(['sysctl', '-qw', 'net.ipv4.conf.wan0.proxy_arp=1'])
  }

  /** Puts manifests there instead of the folder from now on, and lets agents that start later read from there. */
  useManifests(store: ManifestStore): void {
    this.#store = store
  }

  /** Adds or replaces a file of manifests in one step. */
  async writeManifest(name: string, yamlText: string): Promise<void> {
    await this.#store.write(name, yamlText)
  }

  /** Removes a file of manifests. */
  async removeManifest(name: string): Promise<void> {
    await this.#store.remove(name)
  }

  /** Starts `edgemesh server` on a node and waits until it is ready; agents started later use it. */
  startServer(node: string, config: DeepPartial<ServerConfig> = {}, options: LaunchOptions = {}): Promise<LabProcess> {
    return this.#edgemesh.startServer(this.node(node), config, options)
  }

  /** Starts `edgemesh agent` on a node and waits until it is ready. Its state is kept from one start to the next. */
  startAgent(node: string, config: DeepPartial<AgentConfig> = {}, options: LaunchOptions = {}): Promise<LabProcess> {
    return this.#edgemesh.startAgent(this.node(node), config, options)
  }

  /** Stops what tests and helpers have started on nodes and pods; the network stays. */
  async stopAll(): Promise<void> {
    const used = [...this.#hosts.values()].filter((host) => host.kind !== 'wan')
    await Promise.all(used.map((host) => host.stopAll()))
  }

  /** Makes it real; `createLab` calls this once. */
  async build(dnsRecords: Readonly<Record<string, string>>): Promise<void> {
    await Promise.all([this.manifests, ...[...this.#hosts.values()].map((host) => host.dir)].map(makeDir))
    await Promise.all(this.#plan.hosts.map((host) => this.#writeResolvConf(host)))
    await writeFile(join(this.dir, 'psk'), 'the key of the lab', { mode: 0o600 })
    await ip(this.#plan.hosts.map(({ name }) => `netns add ${netnsOf(name)}`))
    await ip(this.#plan.cables.map(renderCable))
    await allDone(this.#plan.hosts.map((host) => this.#setUp(host)))
    const server = join(import.meta.dirname, 'servers', 'dns.ts')
    const dns = this.wan.spawn([process.execPath, server, upstreamDnsAddress, JSON.stringify(dnsRecords)])
    await dns.waitForLine(/^listening/, setUpTimeoutMs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]()
    await Promise.all([...this.#hosts.values()].map((host) => host.stopAll()))
    await this.#lines.disposeAsync()
    const existing = await namespacesOf([...this.#hosts.values()].map((host) => host.netns))
    await endProcessesIn(existing)
    await ip([...existing.keys()].map((netns) => `netns del ${netns}`))
    await rm(this.dir, { recursive: true, force: true })
  }

  #hostOfKind(name: string, kind: Host['kind']): Host {
    const host = this.#hosts.get(name)
    if (host?.kind === kind) return host
    const known = [...this.#hosts.values()].filter((other) => other.kind === kind).map((other) => other.name)
    throw new Error(`The lab has no ${kind} "${name}"; it has: ${known.join(', ') || 'none'}`)
  }

  async #setUplink(name: string, state: 'up' | 'down'): Promise<void> {
    const plug = this.#plan.uplinks[name]
    if (plug === undefined) throw new Error(`"${name}" is neither a LAN nor a cloud node`)
    await ip([`link set ${plug.link} ${state}`], ['-n', netnsOf(plug.host)])
  }

  async #writeResolvConf(plan: HostPlan): Promise<void> {
    const host = this.#hosts.get(plan.name)
    if (host !== undefined && plan.resolvConf !== undefined) await writeFile(host.resolvConf, plan.resolvConf)
  }

  async #setUp(plan: HostPlan): Promise<void> {
    const args = ['netns', 'exec', netnsOf(plan.name), 'sh', '-e', '-c', renderSetUp(plan)]
    await promisify(execFile)('ip', args, { timeout: setUpTimeoutMs })
  }
}

/** Namespaces are named after the process, so it can have one lab at a time. */
async function claimDir(dir: string): Promise<void> {
  await mkdir(dirname(dir), { recursive: true })
  try {
    await mkdir(dir)
  } catch (error) {
    throw new Error('Cannot create a lab: dispose the other lab of this process first', { cause: error })
  }
}

/** Like Promise.all, but nothing is still under way when it rejects. */
async function allDone(tasks: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(tasks)
  await Promise.all(tasks)
}

function netnsOf(host: string): string {
  return `em-${process.pid}-${host}`
}

async function makeDir(path: string): Promise<void> {
  await mkdir(path, { recursive: true })
}

/** Runs `ip` commands in one process. */
async function ip(lines: readonly string[], options: readonly string[] = []): Promise<void> {
  const running = promisify(execFile)('ip', [...options, '-batch', '-'], { timeout: setUpTimeoutMs })
  running.child.stdin?.end(`${lines.join('\n')}\n`)
  await running
}

/**
 * Interface numbers are unique in the whole lab: the kernel takes a veth whose peer in another namespace has the same
 * number for an ordinary device, and reports its carrier up to a second late.
 */
function renderCable([a, b]: readonly [Plug, Plug], index: number): string {
  const number = 1_000 + 2 * index
  const near = `link add ${a.link} index ${number} netns ${netnsOf(a.host)}`
  return `${near} type veth peer name ${b.link} index ${number + 1} netns ${netnsOf(b.host)}`
}

function renderSetUp(plan: HostPlan): string {
  const sysctls = plan.sysctls.map((setting) => {
    const [key = '', value = ''] = setting.split('=')
    return `echo ${value} > /proc/sys/${key.replaceAll('.', '/')}`
  })
  const links = ["ip -batch - <<'END'", 'link set lo up', ...plan.ip, 'END']
  const rules = plan.nft === '' ? [] : ["nft -f - <<'END'", plan.nft, 'END']
  return [...sysctls, ...links, ...rules, ...plan.commands].join('\n')
}

/** Those of the namespaces that exist, with their inodes. */
async function namespacesOf(names: readonly string[]): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  for (const name of names) {
    const inode = await inodeOf(`/run/netns/${name}`)
    if (inode !== undefined) found.set(name, inode)
  }
  return found
}

async function inodeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.ino
}

/** Kills what commands have left behind: a namespace lives as long as a process is in it. */
async function endProcessesIn(namespaces: ReadonlyMap<string, number>): Promise<void> {
  const inodes = new Set(namespaces.values())
  for (let attempt = 0; attempt < 100; attempt++) {
    const left = await processesIn(inodes)
    if (left.length === 0) return
    for (const pid of left) killIfAlive(pid)
    await delay(10)
  }
}

function killIfAlive(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended since it was listed.
  }
}

async function processesIn(inodes: ReadonlySet<number>): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => Number.isInteger(pid))
  const inside = await Promise.all(
    pids.map(async (pid) => {
      const inode = await inodeOf(`/proc/${pid}/ns/net`)
      return inode !== undefined && inodes.has(inode)
    }),
  )
  return pids.filter((_, index) => inside[index])
}
