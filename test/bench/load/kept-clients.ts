/**
 * Connections to a TCP echo server that are kept: `kept-clients.ts ADDRESS PORT COUNT`. Each sends a numbered line twenty times a
 * second and expects it back, in order. Says `look 0 {}` once all are answered; at each SIGUSR2 it waits for more answers on each,
 * says with the number of the look which were lost, as a JSON object of reasons to counts, and goes on with new ones for these.
 */
import { connect } from 'node:net'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

const [address = '', port = '0', count = '1'] = process.argv.slice(2)
const intervalMs = 50
const patienceMs = 20_000

class Kept {
  answered = 0
  failure: string | undefined

  constructor() {
    const socket = connect(Number(port), address)
    let sent = 0
    let tail = ''
    const sending = setInterval(() => socket.write(`${sent++}\n`), intervalMs)
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (tail + text).split('\n')
      tail = lines.pop() ?? ''
      for (const line of lines) if (line !== String(this.answered++)) this.failure ??= 'an answer out of order'
    })
    socket.on('error', ({ message }) => {
      this.failure ??= message
    })
    socket.on('close', () => {
      clearInterval(sending)
      this.failure ??= 'closed'
    })
  }

  /** Waits for an answer to something that is sent from now on. */
  async lives(): Promise<void> {
    // What was under way may still come back over a connection that is dead by now.
    const enough = this.answered + 5
    for (const startedMs = performance.now(); this.failure === undefined && this.answered < enough; await delay(10)) {
      if (performance.now() - startedMs > patienceMs) this.failure = `silent for ${patienceMs} ms`
    }
  }
}

let kept = Array.from({ length: Number(count) }, () => new Kept())
let looks = 0

async function look(): Promise<void> {
  await Promise.all(kept.map((each) => each.lives()))
  const failures: Record<string, number> = {}
  for (const { failure } of kept) if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1
  kept = kept.map((each) => (each.failure === undefined ? each : new Kept()))
  console.log(`look ${looks++} ${JSON.stringify(failures)}`)
}

process.on('SIGUSR2', () => void look())
await look()
