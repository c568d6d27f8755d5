/**
 * `dial-often.ts ADDRESS PORT RATE COUNT`: dials an endpoint of this node so often in a second, says one word each time
 * and closes first; prints `done N failed M` and the first failure. Closing first is what keeps a port taken.
 */
import { once } from 'node:events'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createDirectDialer } from '../../../src/net/index.ts'

const [address = '', port = '', rate = '', count = ''] = process.argv.slice(2)
const dialer = createDirectDialer()
const never = new AbortController().signal
const failures: string[] = []
let done = 0

async function visit(): Promise<void> {
  try {
    const stream = await dialer.dial({ protocol: 'tcp', nodeName: 'here', address, port: Number(port) }, never)
    stream.resume().end('word')
    await once(stream, 'close')
    done += 1
  } catch (error) {
    failures.push(String(error))
  }
}

const visits: Promise<void>[] = []
const startedMs = performance.now()
while (visits.length < Number(count)) {
  const due = Math.min(Number(count), ((performance.now() - startedMs) / 1_000) * Number(rate))
  while (visits.length < due) visits.push(visit())
  await delay(5)
}
await Promise.all(visits)
console.log(`done ${done} failed ${failures.length} ${failures[0] ?? ''}`)
