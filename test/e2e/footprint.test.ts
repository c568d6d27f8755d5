/**
 * A short day: a twentieth of the load of test/bench/leak.ts leaves nothing behind in agents and server. The site is
 * drawn in test/bench/support/leak-site.ts. The bounds are loose, as garbage comes and goes; the bench shows slopes.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { LoadReport } from '../bench/load/report.ts'
import { type LeakSite, startLeakSite } from '../bench/support/leak-site.ts'
import { megabytes, openFilesOf, usageOf, watchHeap, watchRss } from '../bench/support/usage.ts'
import { eventually, ports, resolve, statusOf } from './support/site.ts'

/**
 * What the heap may differ by without a leak: garbage waits until some 80 MB of it make its collection worth while, so
 * a load that makes less may leave all of its garbage behind.
 */
const heapLimitBytes = 30e6
const idleLimitBytes = 90e6
const relayLimitBytes = 120e6
/** A direct connection that both sides have opened at once counts twice for a while. */
const spareFiles = 2

let site: LeakSite
let filesAtStart: readonly number[]

before(async () => {
  site = await startLeakSite()
  await eventually(20_000, async () => {
    const { tunnel } = await statusOf(site.lab.node('edge-a1'))
    assert.equal(tunnel?.peers.find(({ name }) => name === 'edge-a2')?.path.kind, 'lan')
  })
  filesAtStart = await openFiles()
})
after(() => site[Symbol.asyncDispose]())

test('an idle agent with three peers gives back what its start needed, and holds at most 90 MB', async (context) => {
  const agents = site.observed.filter(({ name }) => name !== 'relay')
  for (const agent of agents) {
    await eventually(60_000, async () => {
      const { rss, rssAnon } = await usageOf(agent)
      assert.ok(rss <= idleLimitBytes, `${agent.name} holds ${megabytes(rss)} MB, ${megabytes(rssAnon)} of its own`)
      context.diagnostic(`${agent.name}: ${megabytes(rss)} MB, ${megabytes(rssAnon)} of its own`)
    })
  }
})

test('connections over the relay all work and leave no memory behind', async () => {
  await assertNoGrowth(async () => [await site.connect('edge-b1', 2500)])
})

test('DNS queries are all answered and leave no memory behind', async () => {
  await assertNoGrowth(async () => [await site.query(2500)])
})

test('changed manifests and lost connections leave no memory behind', async () => {
  await assertNoGrowth(() => Promise.all([site.change(100), site.reconnect(20)]))
})

test('a relay holds at most 120 MB while a gigabyte crosses it, and keeps none of it', async (context) => {
  const client = site.lab.pod('client-edge-a1')
  const relay = site.observed.find(({ name }) => name === 'relay')
  assert.ok(relay !== undefined)
  const upload = `http://${await resolve(client, 'web-edge-b1')}:${ports.http}/sha256`
  const send = async (megabytesSent: number) => {
    const command = `head -c ${megabytesSent}000000 /dev/zero | curl -sS -f --max-time 100 --data-binary @- ${upload}`
    const { code, stderr } = await client.exec(['sh', '-c', command], { timeoutMs: 110_000 })
    assert.equal(code, 0, stderr)
  }
  await send(50)
  const before = await usageOf(relay)
  const watch = watchRss(relay)
  for (let round = 0; round < 20; round++) await send(50)
  const most = await watch.end()
  const grown = (await usageOf(relay)).rssAnon - before.rssAnon
  context.diagnostic(`at most ${megabytes(most)} MB, ${megabytes(grown)} MB more than after the first 50 MB`)
  assert.ok(most <= relayLimitBytes, `the relay held ${megabytes(most)} MB`)
  assert.ok(grown < 20e6, `the relay grew by ${megabytes(grown)} MB when 1 GB crossed it`)
})

test('as many files are open as before', async () => {
  await eventually(20_000, async () => {
    const now = await openFiles()
    for (const [at, { name }] of site.observed.entries()) {
      const [count, start] = [now[at] ?? 0, filesAtStart[at] ?? 0]
      assert.ok(count <= start + spareFiles, `${name} has ${count} open files, ${start} at the start`)
    }
  })
})

/** Puts the load on twice: what the second time adds to the heap, garbage aside, is a leak. */
async function assertNoGrowth(load: () => Promise<readonly LoadReport[]>): Promise<void> {
  const first = await heapFloorsDuring(load)
  const second = await heapFloorsDuring(load)
  for (const [at, { name }] of site.observed.entries()) {
    const grown = (second[at] ?? 0) - (first[at] ?? 0)
    assert.ok(grown < heapLimitBytes, `the heap of ${name} grew by ${megabytes(grown)} MB`)
  }
}

async function heapFloorsDuring(load: () => Promise<readonly LoadReport[]>): Promise<number[]> {
  const watches = site.observed.map(watchHeap)
  const reports = await load()
  const floors = await Promise.all(watches.map((watch) => watch.end()))
  for (const { failures } of reports) assert.deepEqual(failures, {})
  return floors
}

function openFiles(): Promise<number[]> {
  return Promise.all(site.observed.map(({ pid }) => openFilesOf(pid)))
}
