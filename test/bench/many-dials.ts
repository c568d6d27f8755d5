/**
 * New connections to one endpoint of the node through the userspace proxy, more than one address has ports for: a closed
 * connection keeps its port for a minute. `scripts/isolated node test/bench/many-dials.ts [rate] [seconds]`, 1,000 and 60
 * when absent. Prints failures, and how many connections wait in TIME_WAIT from which address. Needs the built executable.
 *
 *     client (four addresses) -> edge-a1 (edgemesh) -> web, whose rule takes the userspace proxy
 */
import { join } from 'node:path'
import process from 'node:process'
import { startLimitedService } from '../e2e/support/dialled-service.ts'
import { createLab } from '../lab/index.ts'
import { reportFigures } from './support/figures.ts'

const rate = Number(process.argv[2] ?? 1_000)
const seconds = Number(process.argv[3] ?? 60)
const sources = [1, 2, 3, 4].map((number) => `10.244.0.${200 + number}`)

await using lab = await createLab({
  lans: { a: { nodes: { 'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web', 'client'] } } } },
})
const [node, client] = [lab.node('edge-a1'), lab.pod('client')]
const { clusterIP, port } = await startLimitedService(lab)
for (const source of sources) await client.exec(['ip', 'address', 'add', `${source}/24`, 'dev', 'eth0'])
const script = join(import.meta.dirname, 'load', 'dial-clients.ts')
const argv = [process.execPath, script, clusterIP, String(port), String(rate), String(seconds), ...sources]
const { code, stdout, stderr } = await client.exec(argv, { timeoutMs: (seconds * 4 + 120) * 1_000 })
if (code !== 0) throw new Error(stderr)
process.stdout.write(stdout)
const { stdout: waiting } = await node.exec(['ss', '-Htn', 'state', 'time-wait', 'dst', lab.pod('web').address])
const bySource = new Map<string, number>()
for (const line of waiting.split('\n')) {
  const source = /\s(\d+\.\d+\.\d+\.\d+):\d+\s/.exec(line)?.[1]
  if (source !== undefined) bySource.set(source, (bySource.get(source) ?? 0) + 1)
}
process.stdout.write(`in TIME_WAIT, by source: ${JSON.stringify(Object.fromEntries(bySource))}\n`)
await reportFigures('many-dials', [
  {
    name: 'failed',
    unit: `of ${rate * seconds}`,
    values: { edgemesh: numberAfter('failed') },
    isCost: true,
    goal: { of: 'edgemesh', atMost: 0 },
  },
  { name: 'rate', unit: '1/s', values: { edgemesh: numberAfter('rate') } },
  { name: 'longest', unit: 'ms', values: { edgemesh: numberAfter('longest') }, isCost: true },
  {
    name: 'in TIME_WAIT',
    unit: 'connections',
    values: { edgemesh: [...bySource.values()].reduce((sum, each) => sum + each, 0) },
  },
])

function numberAfter(word: string): number {
  return Number(new RegExp(`${word} (\\d+)`).exec(stdout)?.[1])
}
