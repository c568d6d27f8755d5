/**
 * `dial-clients.ts ADDRESS PORT RATE SECONDS [SOURCE ...]`: so many new connections a second, each of which says one word,
 * hears it back and ends first; from the source addresses in turn, because one address has 28,000 ports a minute.
 * Prints `done N failed M longest L ms REASONS`.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

const [host = '', port = '', rate = '', seconds = '', ...sources] = process.argv.slice(2)
const patienceMs = 20_000
/** A machine that is too slow for the rate has it fall behind, instead of running out of files. */
const mostOpen = 1_000
const count = Number(rate) * Number(seconds)
const failures: Record<string, number> = {}
let done = 0
let longestMs = 0
let open = 0

async function visit(index: number): Promise<void> {
  open += 1
  const source = sources[index % sources.length]
  const startedMs = performance.now()
  const socket = connect({
    host,
    port: Number(port),
    noDelay: true,
    ...(source !== undefined && { localAddress: source }),
  })
  socket.setTimeout(patienceMs, () => socket.destroy(new Error('silent')))
  try {
    socket.write('word')
    const [echo] = await once(socket, 'data')
    if (String(echo) !== 'word') throw new Error(`heard ${echo}`)
    longestMs = Math.max(longestMs, performance.now() - startedMs)
    done += 1
    socket.end()
    await once(socket, 'close')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    failures[reason] = (failures[reason] ?? 0) + 1
    socket.destroy()
  }
  open -= 1
}

const visits: Promise<void>[] = []
const startedMs = performance.now()
while (visits.length < count) {
  const due = Math.min(count, ((performance.now() - startedMs) / 1_000) * Number(rate))
  while (visits.length < due && open < mostOpen) visits.push(visit(visits.length))
  await delay(2)
}
const elapsed = (performance.now() - startedMs) / 1_000
await Promise.all(visits)
const failed = Object.values(failures).reduce((sum, each) => sum + each, 0)
console.log(
  `done ${done} failed ${failed} longest ${longestMs.toFixed(0)} ms rate ${(count / elapsed).toFixed(0)}/s ${JSON.stringify(failures)}`,
)
