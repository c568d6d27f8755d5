/**
 * An agent that starts while the cloud is away, with what it has on disk:
 *
 *               wan
 *       ┌────────┴──────────┐   its cable is pulled
 *   router-a          control-plane
 *       │             etcd, API
 *    edge-a1          agent; pods web-edge-a1, client-edge-a1
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, type TestContext, test } from 'node:test'
import { isWithoutEnvtest } from '../envtest/index.ts'
import type { Host, Lab, LabProcess } from '../lab/index.ts'
import { addWebServices, createClusterLab, eventually, get, resolve, statusOf, writeService } from './support/site.ts'
import { startSteadyRequests } from './support/steady-requests.ts'

/** Generous, because the machine may be busy: what counts is printed. */
const patienceMs = 10_000
const local = 'http://10.96.0.1/'
const service = 'web-edge-a1'

let lab: Lab
let edge: Host
let client: Host
let stateDir = ''
const stored = () => join(stateDir, 'catalog.json.gz')

async function start(): Promise<void> {
  const lans = { a: { nodes: { 'edge-a1': { pods: ['web-edge-a1', 'client-edge-a1'] } } } }
  ;({ lab } = await createClusterLab({ lans }))
  edge = lab.node('edge-a1')
  client = lab.pod('client-edge-a1')
  stateDir = join(edge.dir, 'agent', 'state')
  await addWebServices(lab, ['edge-a1'])
}

/** Nothing of it answers any more once it is stopped. */
function startAgent(): Promise<LabProcess> {
  return lab.startAgent('edge-a1', { modules: { edgeProxy: { onStop: 'remove' } } })
}

/** Fills the disk with what the API says, as far as it takes it. */
async function fillDisk(): Promise<void> {
  await using _agent = await startAgent()
  await works()
}

async function works(timeoutMs = patienceMs): Promise<number> {
  return await eventually(timeoutMs, async () => assert.equal(await get(client, service, '/', 1_000), service))
}

let services = 0

/** A Service that is made now is reached, so the API is followed; tells after what time. */
async function followsAgain(t: TestContext): Promise<void> {
  services += 1
  const name = `later-${services}`
  await writeService(lab, name, `10.96.6.${services}`, [{ node: 'edge-a1', host: lab.pod('web-edge-a1') }])
  await lab.restoreWan('control-plane')
  const ms = await eventually(60_000, async () => assert.equal(await get(client, name, '/', 1_000), service))
  t.diagnostic(`what is new in the API is reached ${ms.toFixed(0)} ms after the cable was back`)
}

function registerTests(): void {
  test('a warm disk: Services work within a second, their age is shown, and the return of the API changes no more than it must', async (t) => {
    await fillDisk()
    await lab.cutWan('control-plane')
    await using requests = await startSteadyRequests(client, [local], { everyMs: 10, timeoutMs: 300 })
    await using dns = client.spawn([
      'sh',
      '-c',
      `until dig +short +tries=1 +time=1 @169.254.96.16 ${service}.default.svc.cluster.local | grep -q ^10; do :; done; echo answered`,
    ])
    const startedAt = Date.now()
    await using agent = await startAgent()
    const readyAt = Date.now()
    const first = await firstAnswer(requests, startedAt)
    await dns.waitForLine(/^answered$/)
    t.diagnostic(
      `first answer ${first - startedAt} ms after the start, the log says ready after ${readyAt - startedAt} ms`,
    )
    assert.ok(first - startedAt <= patienceMs)
    assert.match(await resolve(client, service), /^10\.96\.0\.1$/)
    const { metadata, waitingFor, pid } = await statusOf(edge)
    assert.equal(metadata?.services, 2)
    assert.ok((metadata?.snapshotAgeSeconds ?? -1) >= 0)
    assert.deepEqual(waitingFor, [])
    const returnAt = Date.now()
    await followsAgain(t)
    const after = requests.ended().filter(({ at }) => at >= returnAt)
    assert.ok(after.length > 10)
    assert.deepEqual(
      after.filter(({ answer }) => answer !== service),
      [],
    )
    const now = await statusOf(edge)
    assert.deepEqual([now.pid, now.metadata?.snapshotAgeSeconds], [pid, undefined])
    assert.equal(agent.exit, undefined)
  })

  test('a cold disk: the agent runs, says what it waits for, and serves as soon as the API is there', async (t) => {
    rmSync(stateDir, { recursive: true, force: true })
    await lab.cutWan('control-plane')
    await using _agent = await startAgent()
    const { metadata, waitingFor } = await statusOf(edge)
    assert.equal(metadata?.services, 0)
    assert.ok(waitingFor.includes('the first list of objects'), waitingFor.join())
    assert.equal(
      (await edge.exec(['dig', '+short', 'upstream.example', '@169.254.96.16'])).stdout.trim(),
      '198.51.100.7',
    )
    await followsAgain(t)
    await works()
    assert.deepEqual((await statusOf(edge)).waitingFor, [])
  })

  test('a corrupt disk: the file is set aside and named, and the agent serves as soon as the API is there', async (t) => {
    await fillDisk()
    const bytes = readFileSync(stored())
    writeFileSync(stored(), bytes.subarray(0, bytes.length / 2))
    await lab.cutWan('control-plane')
    await using agent = await startAgent()
    await agent.waitForLine(/"level":"warn".*catalog\.json\.gz\.damaged.*stored objects cannot be used/)
    assert.deepEqual(readFileSync(`${stored()}.damaged`), bytes.subarray(0, bytes.length / 2))
    await followsAgain(t)
    await eventually(20_000, async () => assert.ok(existsSync(stored())))
  })

  test('a full disk: known Services work, new ones too, and status says that they are not kept', async (t) => {
    rmSync(stateDir, { recursive: true, force: true })
    mkdirSync(stateDir, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', stateDir])
    t.after(() => execFileSync('umount', ['--lazy', stateDir]))
    await fillDisk()
    const { size } = statSync(stored())
    const filler = join(stateDir, 'filler')
    assert.throws(() => writeFileSync(filler, Buffer.alloc(128 * 1024)), { code: 'ENOSPC' })
    await lab.cutWan('control-plane')
    {
      await using _agent = await startAgent()
      await works()
      await followsAgain(t)
      await eventually(20_000, async () => {
        assert.match((await statusOf(edge)).metadata?.snapshotProblem ?? '', /ENOSPC/)
      })
      await works()
    }
    assert.equal(statSync(stored()).size, size, 'the old file is not whole any more')
  })
}

async function firstAnswer(requests: Awaited<ReturnType<typeof startSteadyRequests>>, since: number): Promise<number> {
  let at = Number.NaN
  await eventually(patienceMs, async () => {
    const first = requests.ended().find((request) => request.at >= since && request.answer !== undefined)
    assert.ok(first, 'no answer')
    at = first.at + first.ms
  })
  return at
}

if (!isWithoutEnvtest()) {
  before(start)
  afterEach(() => lab.restoreWan('control-plane'))
  after(() => lab?.[Symbol.asyncDispose]())
  registerTests()
}
