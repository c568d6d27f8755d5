/**
 * Our agents and agents of the Go system in one mesh, run by hand, because building the Go system takes its sources:
 *
 *     EDGEMESH_GO_AGENT=/path/to/edgemesh-agent scripts/isolated node test/interop/go-agents.ts [--relay ours|go] [--open] [--quick|--rendezvous]
 *
 * Each node runs one of the two kinds; every pair is asked for a page and for datagrams both ways, in the LAN and across
 * NATs. `--quick` asks for pages only. `--rendezvous` asks nothing, but waits until the nodes of different LANs know each
 * other by name, which they can only learn from the relay.
 *
 *            cloud-1 relay, kube-apiserver
 *        ┌────────┴─────────┐
 *    router-a            router-b
 *     edge-a1 ours        edge-b1 go
 *     edge-a2 go          edge-b2 ours
 *
 * Prints a table of who reached whom; exits with 1 when one did not.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { admin, ControlPlane } from '../envtest/index.ts'
import {
  createLab,
  type Host,
  type Lab,
  type LabProcess,
  type ManifestPort,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import type { DatagramReport } from './datagram-client.ts'

const { values } = parseArgs({
  options: {
    relay: { type: 'string', default: 'go' },
    open: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    rendezvous: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
})
const goAgent = process.env['EDGEMESH_GO_AGENT']
if (goAgent === undefined) throw new Error('EDGEMESH_GO_AGENT names no executable')

type Kind = 'ours' | 'go'
const kinds: Readonly<Record<string, Kind>> = {
  'cloud-1': values.relay === 'ours' ? 'ours' : 'go',
  'edge-a1': 'ours',
  'edge-a2': 'go',
  'edge-b1': 'go',
  'edge-b2': 'ours',
}
const names = Object.keys(kinds)
const tunnelPort = 20_006
const podPort = 8080
const echoPort = 9053
const patienceMs = 60_000

/** Agents of the Go system that find no relay in their table tell of themselves again after two minutes. */
const rendezvousPatienceMs = 240_000

/** The Go system's tables take public addresses and private ones, but none of those that are for examples. */
const listedAddress = '10.99.0.100'

await using lab = await createLab({
  cloud: { 'cloud-1': { pods: ['web-cloud-1'] } },
  lans: {
    a: { nodes: { 'edge-a1': { pods: ['web-edge-a1'] }, 'edge-a2': { pods: ['web-edge-a2'] } } },
    b: { nodes: { 'edge-b1': { pods: ['web-edge-b1'] }, 'edge-b2': { pods: ['web-edge-b2'] } } },
  },
})
await using plane = await ControlPlane.start({ host: lab.node('cloud-1') })
const kubeConfig = await plane.writeKubeconfig('go', { token: admin.token })
for (const [at, name] of names.entries()) await publish(lab, name, `10.96.7.${at + 1}`)
if (values.rendezvous) await giveListedAddress(lab)
const agents = new Map<string, LabProcess>()
for (const name of names) await (kinds[name] === 'ours' ? startOurs(name) : startGo(name))
const failed = await (values.rendezvous ? askWhoIsKnown() : askAll())
process.exitCode = failed === 0 ? 0 : 1

async function publish(on: Lab, name: string, clusterIP: string): Promise<void> {
  const pod = on.pod(`web-${name}`)
  await startTestServer(pod, 'http', { port: podPort })
  const echo = pod.spawn([process.execPath, join(import.meta.dirname, 'datagram-echo.ts'), String(echoPort), name])
  await echo.waitForLine(/^listening/)
  const metadata = { name: `web-${name}`, namespace: 'default' }
  const ports: readonly ManifestPort[] = [
    { name: 'http', protocol: 'TCP', port: 80, targetPort: podPort },
    { name: 'echo', protocol: 'UDP', port: 53, targetPort: echoPort },
  ]
  const endpointPorts = ports.map(({ name: portName, protocol, targetPort }) => {
    return { name: portName, protocol, port: targetPort }
  })
  const subsets = [{ addresses: [{ ip: pod.address, nodeName: name }], ports: endpointPorts }]
  const endpoints = { apiVersion: 'v1', kind: 'Endpoints', metadata, subsets }
  await plane.call('POST', '/api/v1/namespaces/default/services', { metadata, spec: { clusterIP, ports } })
  await plane.call('POST', '/api/v1/namespaces/default/endpoints', endpoints)
  await on.writeManifest(
    `${name}.yaml`,
    `${serviceManifest({ name: metadata.name, clusterIP, ports })}---\n${stringify(endpoints)}`,
  )
}

function tunnelOf(host: Host) {
  const relayAddress = values.rendezvous ? listedAddress : lab.node('cloud-1').address
  const relay = { nodeName: 'cloud-1', advertiseAddress: [relayAddress] }
  return {
    enable: true,
    listenPort: tunnelPort,
    relayNodes: [relay],
    psk: { enable: !values.open, path: join(host.dir, '..', '..', 'psk') },
  }
}

async function startOurs(name: string): Promise<void> {
  const host = lab.node(name)
  const started = await lab.startAgent(name, {
    modules: { edgeTunnel: { ...tunnelOf(host), identity: 'derived', servers: [] } },
  })
  agents.set(name, started)
}

async function startGo(name: string): Promise<void> {
  const host = lab.node(name)
  const folder = join(host.dir, 'go')
  await mkdir(folder, { recursive: true })
  const file = join(folder, 'edgemesh-agent.yaml')
  const modules = { edgeProxy: { enable: true }, edgeTunnel: tunnelOf(host) }
  await writeFile(file, stringify({ kubeAPIConfig: { kubeConfig, contentType: 'application/json' }, modules }))
  const command = `cd ${folder} && exec ${goAgent} --config-file ${file} --v 4`
  const started = host.spawn(['sh', '-c', command], { env: { NODE_NAME: name, NAMESPACE: 'kubeedge' } })
  agents.set(name, started)
  await delay(3000)
  if (started.exit !== undefined) throw new Error(started.output())
  if (values.verbose) setTimeout(() => console.log(started.output()), patienceMs).unref()
}

async function askAll(): Promise<number> {
  const rows = names.flatMap((from) => names.filter((to) => to !== from).map((to) => ({ from, to })))
  let missing = 0
  for (const { from, to } of rows) {
    const started = performance.now()
    const answer = await askUntilAnswered(from, to)
    const took = `${((performance.now() - started) / 1000).toFixed(1)} s`
    if (answer !== '') missing += 1
    const page = answer === '' ? `reached, ${took}` : answer
    console.log(
      `${from} (${kinds[from]}) -> ${to} (${kinds[to]})  ${page}${values.quick ? '' : await askDatagrams(from, to)}`,
    )
  }
  return missing
}

/** Empty once the page came. */
async function askUntilAnswered(from: string, to: string): Promise<string> {
  const url = `http://10.96.7.${names.indexOf(to) + 1}/`
  const giveUpAt = performance.now() + patienceMs
  for (;;) {
    const { code, stdout, stderr } = await lab.node(from).exec(['curl', '-sS', '--max-time', '5', url])
    if (code === 0 && stdout.includes(`web-${to}`)) return ''
    if (performance.now() > giveUpAt) return `not reached: ${stdout}${stderr}`.trim()
    await delay(500)
  }
}

/** What came back of the datagrams, for the table. */
async function askDatagrams(from: string, to: string): Promise<string> {
  const client = join(import.meta.dirname, 'datagram-client.ts')
  const argv = [process.execPath, client, `10.96.7.${names.indexOf(to) + 1}`, '53']
  const { stdout, stderr } = await lab.node(from).exec(argv, { timeoutMs: 30_000 })
  if (stdout === '') return `; datagrams: ${stderr.trim()}`
  const { name, whole, afterPause, ofMany, strange }: DatagramReport = JSON.parse(stdout)
  if (name === undefined) return '; datagrams: none'
  const who = name === to ? '' : ` from ${name}`
  const rest = `${afterPause ? '' : ', none after a pause'}${strange === 0 ? '' : `, ${strange} others`}`
  return `; datagrams${who}: ${whole.join(', ')} bytes, ${ofMany} of 30${rest}`
}

async function giveListedAddress(on: Lab): Promise<void> {
  await on.node('cloud-1').exec(['ip', 'address', 'add', `${listedAddress}/32`, 'dev', 'eth0'])
  for (const lan of ['a', 'b']) {
    await on.router(lan).exec(['ip', 'route', 'add', listedAddress, 'via', on.node('cloud-1').address])
  }
}

/** Prints who knows whom across LANs; gives the number of pairs with one of ours that do not know each other. */
async function askWhoIsKnown(): Promise<number> {
  const startedMs = performance.now()
  const lanOf = (name: string) => name.replace(/\d$/, '')
  const edges = names.filter((name) => name.startsWith('edge-'))
  const pairs = edges.flatMap((from) => edges.filter((to) => lanOf(to) !== lanOf(from)).map((to) => ({ from, to })))
  const waiting = new Set(pairs)
  const isOurs = ({ from, to }: { readonly from: string; readonly to: string }) =>
    kinds[from] === 'ours' || kinds[to] === 'ours'
  while ([...waiting].some(isOurs) && performance.now() - startedMs < rendezvousPatienceMs) {
    for (const pair of waiting) {
      if (!namesKnownTo(pair.from).has(pair.to)) continue
      waiting.delete(pair)
      const took = ((performance.now() - startedMs) / 1000).toFixed(0)
      console.log(`${pair.from} (${kinds[pair.from]}) knows ${pair.to} (${kinds[pair.to]}) after ${took} s`)
    }
    await delay(1000)
  }
  for (const { from, to } of waiting) console.log(`${from} (${kinds[from]}) does not know ${to} (${kinds[to]})`)
  // Two of the Go system look for each other only once, when they start.
  return [...waiting].filter(isOurs).length
}

/** As the agent's log says: its status lists also those that it was asked for. */
function namesKnownTo(name: string): ReadonlySet<string> {
  const told = /Discovery (?:to|from) ([\w-]+) :|"peer":"([\w-]+)"[^\n]*has told its name/g
  return new Set([...(agents.get(name)?.output() ?? '').matchAll(told)].map(([, go, ours]) => go ?? ours ?? ''))
}
