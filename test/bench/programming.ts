/**
 * How long the kernel takes to learn of Services: 10, 1,000 and 10,000 ServicePorts with three endpoints on this node
 * each. Prints the time to install all, the time of one endpoint's change (planning, difference and nft), and how
 * long a connection through a ServicePort takes to stand. Each size has a network namespace and a process of its own,
 * and the three take turns, so that a busy machine treats them alike:
 * `scripts/isolated scripts/with-node test/bench/programming.ts [rounds]`, after a build. With PROGRAMMING_BY=nft in the
 * environment elements are changed by a process of nft instead of our own.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { createCatalog, type Snapshot } from '../../src/catalog/index.ts'
import { openKernel } from '../../src/linux/index.ts'
import { type EndpointSlice, parseIpv4Network, type Service } from '../../src/model/index.ts'
import { silentLogger } from '../../src/observability/index.ts'
import { createDesiredStateMaker } from '../../src/proxy/desired-state.ts'
import { tableName } from '../../src/proxy/index.ts'
import { createKernelReconciler } from '../../src/proxy/kernel/reconciler.ts'
import { createServicePlanner, type PlanOptions } from '../../src/proxy/service-plan.ts'
import { loadBuiltNative } from '../e2e/support/native.ts'
import { requireIsolation } from '../lab/isolation.ts'
import { type Goal, reportFigures } from './support/figures.ts'

const sizes = [10, 1_000, 10_000]
const connectionsPerTurn = 50
const { signal } = new AbortController()

if (process.argv[2] === 'node') await runNode(Number(process.argv[3]))
else await compare(Number(process.argv[2] ?? 20))

interface Turn {
  readonly changeMs: number
  /** Of this process and of nft, which counts in steps of 10 ms. */
  readonly changeCpuMs: number
  readonly connectMs: readonly number[]
}

interface Install {
  readonly wallMs: number
  readonly cpuMs: number
}

async function compare(rounds: number): Promise<void> {
  await requireIsolation()
  await using nodes = new AsyncDisposableStack()
  const started = []
  for (const size of sizes) started.push({ size, node: nodes.use(await startNode(size)), turns: [] as Turn[] })
  for (let round = 0; round < rounds; round++) {
    for (const { node, turns } of started) turns.push(JSON.parse(await node.ask('turn')) as Turn)
  }
  const figures = new Map<string, Record<string, number>>()
  const note = (name: string, size: number, value: number) =>
    figures.set(name, { ...figures.get(name), [nameOf(size)]: value })
  for (const { size, node, turns } of started) {
    const installs = JSON.parse(await node.ask('install')) as Install[]
    const connects = turns.flatMap(({ connectMs }) => connectMs)
    const changes = turns.map(({ changeMs }) => changeMs)
    note(
      'install all|ms',
      size,
      at(
        installs.map(({ wallMs }) => wallMs),
        0.5,
      ),
    )
    note(
      'install all, CPU|ms',
      size,
      at(
        installs.map(({ cpuMs }) => cpuMs),
        0.5,
      ),
    )
    note('one change, p50|ms', size, at(changes, 0.5))
    note('one change, p90|ms', size, at(changes, 0.9))
    note('one change, CPU|ms', size, turns.reduce((sum, { changeCpuMs }) => sum + changeCpuMs, 0) / turns.length)
    note('connection stands, p50|ms', size, at(connects, 0.5))
    note('connection stands, p99|ms', size, at(connects, 0.99))
  }
  const [few = '', , most = ''] = sizes.map(nameOf)
  const goals: Readonly<Record<string, Goal>> = {
    'install all|ms': { of: most, atMost: 500 },
    'one change, p50|ms': { of: most, atMost: 20 },
    'connection stands, p50|ms': { of: most, against: few, atMost: 1.3 },
  }
  await reportFigures(
    'programming',
    [...figures].map(([key, values]) => {
      const [name = '', unit = ''] = key.split('|')
      const goal = goals[key]
      return { name, unit, values, isCost: true, ...(goal !== undefined && { goal }) }
    }),
  )
}

function nameOf(size: number): string {
  return `${size} ServicePorts`
}

function at(values: readonly number[], share: number): number {
  const sorted = [...values].sort((left, right) => left - right)
  return sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN
}

async function startNode(size: number) {
  const netns = `programming-${size}`
  execFileSync('ip', ['netns', 'add', netns])
  const child = spawn('ip', ['netns', 'exec', netns, process.execPath, import.meta.filename, 'node', String(size)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async () => String((await lines.next()).value)
  await answer()
  return {
    ask(question: string): Promise<string> {
      child.stdin.write(`${question}\n`)
      return answer()
    },
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      if (child.exitCode === null) await once(child, 'exit')
      execFileSync('ip', ['netns', 'del', netns])
    },
  }
}

/** One node: answers each line of standard input with a line of JSON. */
async function runNode(size: number): Promise<void> {
  // Every address of the pods' networks is this node's own, so that any endpoint answers.
  execFileSync('ip', ['link', 'set', 'lo', 'up'])
  for (const network of ['10.244.0.0/16', '10.96.0.0/16']) {
    execFileSync(
      'ip',
      network === '10.244.0.0/16' ? ['addr', 'add', network, 'dev', 'lo'] : ['route', 'add', network, 'dev', 'lo'],
    )
  }
  const server = createServer((socket) =>
    socket
      .resume()
      .once('end', () => socket.end())
      .on('error', () => {}),
  )
  server.listen(8080, '0.0.0.0')
  await once(server, 'listening')
  const native = process.env['PROGRAMMING_BY'] === 'nft' ? undefined : loadBuiltNative()
  using kernel = await openKernel({ table: tableName, deviceName: 'edgemesh0' }, silentLogger, native)
  const bench = createProgramming(size, kernel)
  await bench.change(0)
  process.stdout.write('ready\n')
  let round = 0
  for await (const line of createInterface({ input: process.stdin })) {
    round += 1
    const answer = line === 'install' ? await bench.installs() : await turn(bench, round, size)
    process.stdout.write(`${JSON.stringify(answer)}\n`)
  }
  server.close()
}

async function turn(bench: ReturnType<typeof createProgramming>, round: number, size: number): Promise<Turn> {
  const before = cpuMs()
  const changeMs = await bench.change(round)
  const changeCpuMs = cpuMs() - before
  const connectMs: number[] = []
  for (let attempt = 0; attempt < connectionsPerTurn; attempt++) {
    const host = clusterIPOf(Math.floor(Math.random() * size))
    const startedAt = performance.now()
    const socket = connect({ host, port: 80 })
    await once(socket, 'connect')
    connectMs.push(performance.now() - startedAt)
    socket.resetAndDestroy()
  }
  return { changeMs, changeCpuMs, connectMs }
}

/** Processor time of this process and of those it waited for. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  const fields = readFileSync('/proc/self/stat', 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
  return (user + system) / 1_000 + (Number(fields[13]) + Number(fields[14])) * 10
}

function createProgramming(size: number, kernel: Awaited<ReturnType<typeof openKernel>>) {
  const range = '169.254.64.0/19'
  const syntheticNetwork = parseIpv4Network(range)
  if (syntheticNetwork === undefined) throw new Error(`not a network: ${range}`)
  const options: PlanOptions = {
    nodeName: 'edge-a1',
    serviceFilterMode: 'FilterIfLabelExists',
    interceptKubernetesService: false,
    balancing: 'random',
    syntheticNetwork,
    excludedAddresses: new Set(),
  }
  const facts = { foreignInterfaces: ['eth0'], switchedNetworks: [], hasDefaultRoute: true, nodeAddress: undefined }
  const make = () => {
    const parts = {
      plan: createServicePlanner(),
      desire: createDesiredStateMaker(),
      reconciler: createKernelReconciler(kernel, 'edgemesh0', { logger: silentLogger }),
    }
    return async (snapshot: Snapshot): Promise<number> => {
      const startedAt = performance.now()
      let appliedAt = Number.NaN
      const plan = parts.plan(snapshot, options)
      const addresses = { syntheticRange: range, bridgeAddress: '169.254.96.16' }
      const inputs = { facts, ...addresses, listenPorts: [24001], clients: 'local', isDraining: false } as const
      const wanted = parts.desire({ ...inputs, plan, others: [], synthetic: new Map() })
      const around = async (apply: () => Promise<void>) => {
        await apply()
        appliedAt = performance.now()
      }
      await parts.reconciler.reconcile(wanted, around, signal)
      return appliedAt - startedAt
    }
  }
  const program = make()
  const catalog = createCatalog({ debounceMs: 0, maxDelayMs: 0 })
  catalog.replace('nodes', [])
  catalog.replace(
    'endpointSlices',
    Array.from({ length: size }, (_, index) => sliceOf(index, 0)),
  )
  catalog.replace(
    'services',
    Array.from({ length: size }, (_, index) => serviceOf(index)),
  )
  return {
    /** Another third endpoint for one Service; the first call installs everything. */
    async change(round: number): Promise<number> {
      const next = Promise.withResolvers<void>()
      const before = catalog.current.sequence
      using _subscription = catalog.subscribe(({ sequence }) => sequence > before && next.resolve())
      if (round > 0) {
        // An equal slice would be no change.
        catalog.put('endpointSlices', sliceOf(round % size, 1 + (Math.floor(round / size) % 2)))
        await next.promise
      }
      return await program(catalog.current)
    },
    /** Installs everything again, as a new process would. */
    async installs(): Promise<Install[]> {
      const times: Install[] = []
      for (let attempt = 0; attempt < 5; attempt++) {
        const before = cpuMs()
        const wallMs = await make()(catalog.current)
        times.push({ wallMs, cpuMs: cpuMs() - before })
      }
      return times
    },
  }
}

function clusterIPOf(index: number): string {
  return `10.96.${index >> 8}.${index & 255}`
}

function serviceOf(index: number): Service {
  return {
    namespace: 'shop',
    name: `service-${index}`,
    labels: {},
    type: 'ClusterIP',
    clusterIPs: [clusterIPOf(index)],
    headless: false,
    ports: [{ name: '', protocol: 'tcp', port: 80 }],
    publishNotReadyAddresses: false,
  }
}

function sliceOf(index: number, version: number): EndpointSlice {
  const hosts = [index * 3, index * 3 + 1, index * 3 + 2 + 30_001 * version]
  return {
    namespace: 'shop',
    name: `service-${index}`,
    serviceName: `service-${index}`,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: '', protocol: 'tcp', port: 8080 }],
    endpoints: hosts.map((host) => ({
      addresses: [`10.244.${(host >> 8) & 255}.${host & 255}`],
      ready: true,
      serving: true,
      terminating: false,
      nodeName: 'edge-a1',
    })),
  }
}
