/**
 * One node that follows an API with many Services, and how long a change takes there:
 *
 *                  wan
 *       ┌───────────┼──────────────┐
 *   control-plane  relay        cloud-1      agent; pods web-1, web-2, client
 *   etcd, API      server
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { type ControlPlane, type SliceWatch, watchSlices, writeManyServices } from '../../envtest/index.ts'
import { type Lab, type LabProcess, startTestServer } from '../../lab/index.ts'
import { createClusterLab, eventually, quickStatusOf, writeService } from './site.ts'
import { type SteadyRequests, startSteadyRequests } from './steady-requests.ts'

const port = 8080
const clusterIP = '10.96.5.1'
const url = `http://${clusterIP}/`

/** A site that follows many Services. */
export interface ScaleSite extends AsyncDisposable {
  readonly lab: Lab
  readonly plane: ControlPlane
  readonly agent: LabProcess
  /** How long it took to make the Services in the API. */
  readonly writtenMs: number
  /** From the start of the agent until every ServicePort is in the kernel. */
  readonly programmedMs: number
  /** Moves the endpoint of a Service to another pod: from its watch event until a new connection gets there. */
  changeMs(): Promise<number>
  /** How long the agent runs. */
  agentAgeMs(): number
  /** Resident memory of the agent in bytes: now, and the most that it ever was. */
  memory(): Promise<{ readonly now: number; readonly most: number }>
}

/** Makes the Services, then starts server and agent and waits for the last ServicePort. */
export async function startScaleSite(count: number): Promise<ScaleSite> {
  const stack = new AsyncDisposableStack()
  const { lab, plane } = await createClusterLab({
    cloud: { relay: {}, 'cloud-1': { pods: ['web-1', 'web-2', 'client'] } },
  })
  stack.use(lab)
  try {
    const pods = ['web-1', 'web-2'].map((name) => lab.pod(name))
    await Promise.all(pods.map((pod) => startTestServer(pod, 'http', { port })))
    let current = 0
    const move = async () => {
      current = 1 - current
      const host = pods[current]
      assert.ok(host)
      await writeService(lab, 'moving', clusterIP, [{ node: 'cloud-1', host, port }])
      return host.name
    }
    const writingAt = performance.now()
    const names = Array.from({ length: 500 }, (_, index) => `edge-${index}`)
    await writeManyServices(plane, lab.node('control-plane'), { count, nodes: names })
    const writtenMs = performance.now() - writingAt
    await move()
    await lab.startServer('relay')
    const startedAt = performance.now()
    const agent = await lab.startAgent('cloud-1', {}, { readyTimeoutMs: 120_000 })
    await eventually(120_000, async () => assert.ok((await servicePortsIn(lab)) >= 2 * count))
    const programmedMs = performance.now() - startedAt
    const watch = stack.use(await watchSlices(plane, lab.node('cloud-1')))
    const client = stack.use(await startSteadyRequests(lab.pod('client'), [url], { everyMs: 5, timeoutMs: 5_000 }))
    return {
      lab,
      plane,
      agent,
      writtenMs,
      programmedMs,
      changeMs: () => measureChange(move, watch, client),
      agentAgeMs: () => performance.now() - startedAt,
      memory: () => memoryOf(agent.pid),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}

async function servicePortsIn(lab: Lab): Promise<number> {
  const { proxy } = await quickStatusOf(lab.node('cloud-1'))
  assert.equal(proxy?.problem, undefined)
  const { stdout } = await lab
    .node('cloud-1')
    .exec(['sh', '-c', 'nft list table ip edgemesh | grep -o "10\\.96\\.[0-9.]* \\. [0-9]* :" | wc -l'])
  return Number(stdout)
}

async function measureChange(move: () => Promise<string>, watch: SliceWatch, client: SteadyRequests): Promise<number> {
  const sentAt = Date.now()
  const name = await move()
  const eventAt = await watch.eventOf('moving-1', sentAt)
  let arrivedAt = Number.NaN
  await eventually(30_000, async () => {
    const first = client.ended().find(({ at, answer }) => at >= sentAt && answer === name)
    assert.ok(first, `no connection reaches ${name}`)
    arrivedAt = first.at + first.ms
  })
  return arrivedAt - eventAt
}

async function memoryOf(pid: number): Promise<{ now: number; most: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const bytes = (field: string) => 1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
  return { now: bytes('VmRSS'), most: bytes('VmHWM') }
}
