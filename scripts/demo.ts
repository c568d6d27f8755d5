/**
 * The main job, shown step by step on the network that the end-to-end tests use; see scripts/demo. Ends with 0 only
 * if every step worked.
 */
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { createSite, eventually, get, nodes, paths, resolve } from '../test/e2e/support/site.ts'
import { edgemeshBinary, type Host, runHalfCloseClient } from '../test/lab/index.ts'

const keeps = process.argv.includes('--keep')
const startedAt = performance.now()
let failures = 0

await using lab = await createSite()
show(`a small internet: two LANs behind NATs, a cloud

                       wan
        ┌───────┬───────┴──────┬────────────────────┐
      relay   cloud-1       router-a             router-b
      server  agent       ┌────┴─────┐              │
                       edge-a1    edge-a2        edge-b1      agents; each node has a pod web-NODE`)

await step('the LANs cannot see each other', async () => {
  const { code } = await lab
    .node('edge-a1')
    .exec(['curl', '-s', '--max-time', '1', `http://${lab.node('edge-b1').address}:20006`])
  if (code === 0) throw new Error('edge-a1 reaches edge-b1 without edgemesh')
  return `edge-a1 gets no answer from ${lab.node('edge-b1').address}`
})

await step('start edgemesh server', async () => `pid ${(await lab.startServer('relay')).pid}`)
const agents = new Map<string, number>()
await step('start edgemesh agents', async () => {
  await Promise.all(nodes.map(async (node) => agents.set(node, (await lab.startAgent(node)).pid)))
  return nodes.join(', ')
})
await step('first request from edge-a1 to edge-b1, across both NATs', async () => {
  const client = lab.node('edge-a1')
  const waitedMs = await eventually(15_000, async () => void (await get(client, 'web-edge-b1', '/', 3_000)))
  return `answered ${waitedMs.toFixed(0)} ms after the agents were ready`
})

show('cluster DNS on every node, 169.254.96.16')
for (const node of nodes) {
  await step(`dig web-${node}.default.svc.cluster.local, on edge-a1`, () => resolve(lab.node('edge-a1'), `web-${node}`))
}
await step('dig upstream.example, on edge-a1 (not in the cluster)', async () => {
  const { stdout } = await lab.node('edge-a1').exec(['dig', '+short', '@169.254.96.16', 'upstream.example'])
  if (stdout.trim() === '') throw new Error('no answer')
  return stdout.trim()
})

show('HTTP to Services by name, from host processes and from pods')
for (const { name, from, to } of paths) {
  await step(`${name}: ${from} → web-${to}`, () => timedGet(lab.node(from), to))
  await step(`${name}: pod client-${from} → web-${to}`, () => timedGet(lab.pod(`client-${from}`), to))
}

show('TCP, with half-close: the client sends, shuts down its side, and then receives the whole answer')
await step('pod client-edge-a1 → web-edge-b1', async () => {
  const client = lab.pod('client-edge-a1')
  const address = await resolve(client, 'web-edge-b1')
  const { server, answer, error } = await runHalfCloseClient(client, { address, port: 81, sendBytes: 1_000_000 })
  if (error !== undefined || server?.bytes !== 1_000_000)
    throw new Error(error ?? `the server got ${server?.bytes} bytes`)
  return `sent ${server.bytes} bytes, shut down, then received ${answer.bytes} bytes`
})
await step('pod client-edge-a1 → TCP echo on web-edge-b1', async () => {
  const echo = `exec 3<>/dev/tcp/web-edge-b1/82; printf 'hello from A' >&3; head -c 12 <&3`
  const { stdout, stderr } = await lab.pod('client-edge-a1').exec(['bash', '-c', echo])
  if (stdout !== 'hello from A') throw new Error(`got "${stdout}" ${stderr}`)
  return `"${stdout}" came back`
})

show('edgemesh status on edge-a1: peers and paths')
await step('status', async () => `\n${await statusOf(lab.node('edge-a1'))}`)
for (const node of ['edge-a1', 'edge-b1']) show(`memory of the agent on ${node}: ${memoryOf(agents.get(node))}`)

if (keeps) await keep()
show(failures === 0 ? 'every step worked' : `${failures} steps failed`)
process.exitCode = failures === 0 ? 0 : 1

async function step(title: string, run: () => Promise<string>): Promise<void> {
  const before = performance.now()
  try {
    const result = await run()
    print(`  ok    ${title}: ${result}`, before)
  } catch (error) {
    failures += 1
    print(`  FAIL  ${title}: ${error instanceof Error ? error.message : String(error)}`, before)
  }
}

function show(text: string): void {
  process.stdout.write(`\n${((performance.now() - startedAt) / 1000).toFixed(1)} s  ${text}\n`)
}

function print(line: string, since: number): void {
  process.stdout.write(`${line}  [${(performance.now() - since).toFixed(0)} ms]\n`)
}

async function timedGet(host: Host, node: string): Promise<string> {
  const url = `http://${await resolve(host, `web-${node}`)}/`
  const format = '%{stderr}%{time_connect} %{time_total}'
  const { code, stdout, stderr } = await host.exec(['curl', '-sS', '--max-time', '5', '-w', format, url])
  if (code !== 0 || stdout.trim() !== `web-${node}`) throw new Error(`curl ${url}: ${stdout}${stderr}`)
  const [connect = 0, total = 0] = stderr.split(' ').map((seconds) => Number(seconds) * 1000)
  return `"${stdout.trim()}" connect ${connect.toFixed(1)} ms, answer ${total.toFixed(1)} ms`
}

async function statusOf(host: Host): Promise<string> {
  const { code, stdout, stderr } = await host.exec([
    edgemeshBinary(),
    'status',
    '--config',
    `${host.dir}/edgemesh-agent.yaml`,
  ])
  if (code !== 0) throw new Error(stderr || stdout)
  return stdout.trimEnd().replaceAll(/^/gm, '        ')
}

function memoryOf(pid: number | undefined): string {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const megabytes = (field: string): string => {
    const kilobytes = Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
    return `${((kilobytes * 1024) / 1e6).toFixed(0)} MB`
  }
  return `Rss ${megabytes('VmRSS')}, RssAnon ${megabytes('RssAnon')}, RssFile ${megabytes('RssFile')}`
}

async function keep(): Promise<void> {
  const outer = process.env['EDGEMESH_DEMO_PID']
  const edge = lab.node('edge-a1')
  show(`running until Ctrl-C. In another terminal, as root:

  enter the network   nsenter -t "$(pgrep -n -f scripts/demo.ts)" -m -n -p
  list the hosts      ip netns
  a shell on edge-a1  ip netns exec ${edge.netns} bash
  then                dig +short @169.254.96.16 web-edge-b1.default.svc.cluster.local
                      curl "http://$(dig +short @169.254.96.16 web-edge-b1.default.svc.cluster.local)/"
                      ${edgemeshBinary()} status --config ${edge.dir}/edgemesh-agent.yaml
  manifests           ${lab.manifests} (edit them and watch DNS change)
  end                 Ctrl-C here, or kill ${outer}`)
  const stopped = Promise.withResolvers<void>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.resolve())
  // A promise alone does not keep the process.
  const alive = setInterval(() => {}, 60_000)
  await stopped.promise
  clearInterval(alive)
}
