/**
 * What giving memory back costs those who come next: `scripts/isolated node test/bench/trim.ts [rounds]`. Each round
 * starts a site anew and times requests and DNS queries of a pod, warm, before the agents have given their memory back
 * and as the first thing after it. Prints milliseconds.
 */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createSite, eventually, get, startMesh } from '../e2e/support/site.ts'
import type { Host } from '../lab/index.ts'
import { observedOn } from './support/observed.ts'
import { megabytes, renderTable, usageOf } from './support/usage.ts'

const rounds = Number(process.argv[2] ?? 3)
/** Clients that come one by one, some seconds apart from what was before. */
const requests = 5

const rows: string[][] = [['ms', 'MB rss', 'DNS', 'request over the relay', 'then', 'then', 'then', 'then']]
for (let round = 1; round <= rounds; round++) await measure(round)
process.stdout.write(`${renderTable(rows)}\n`)

async function measure(round: number): Promise<void> {
  await using lab = await createSite()
  const mesh = await startMesh(lab)
  const client = lab.pod('client-edge-a1')
  const agent = observedOn(lab.node('edge-a1'), 'agent', mesh.agent('edge-a1').pid)
  await eventually(15_000, async () => void (await get(client, 'web-edge-b1', '/', 3_000)))
  await eventually(15_000, async () => void (await get(client, 'web-edge-b1', '/', 3_000)))
  await delay(3_000)
  rows.push([`${round} before`, megabytes((await usageOf(agent)).rss), ...(await timesOf(client))])
  await delay(20_000)
  const { rss } = await usageOf(agent)
  rows.push([`${round} after`, megabytes(rss), ...(await timesOf(client))])
}

async function timesOf(client: Host): Promise<string[]> {
  const name = 'web-edge-b1.default.svc.cluster.local'
  const dns = await client.exec(['dig', '+noall', '+stats', '@169.254.96.16', name])
  const address = '10.96.0.3'
  const times = [`${/Query time: (\d+)/.exec(dns.stdout)?.[1]}`]
  for (let request = 0; request < requests; request++) {
    const curl = ['curl', '-sS', '-o', '/dev/null', '-w', '%{time_total}', `http://${address}/`]
    times.push((Number((await client.exec(curl)).stdout) * 1000).toFixed(1))
  }
  return times
}
