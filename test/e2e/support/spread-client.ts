/**
 * `spread-client.ts ADDRESS PORT COUNT [SOURCE ...]`: COUNT flows of one datagram and its answer from each source address,
 * every flow from a port of its own so that the kernel knows none of them. Prints for each source, as JSON, how often
 * each answer came.
 */
import { createSocket } from 'node:dgram'
import process from 'node:process'

const [address = '', port = '', count = '', ...sources] = process.argv.slice(2)
/** Below the range that others get their ports from. */
const firstPort = 10_000
const together = 100
/** A datagram that was lost is sent again; the flow stays where it is. */
const patienceMs = 1_000
const mostTries = 10

const results: Record<string, number>[] = []
for (const source of sources.length === 0 ? ['0.0.0.0'] : sources) {
  const counts: Record<string, number> = {}
  for (let at = 0; at < Number(count); at += together) {
    const length = Math.min(together, Number(count) - at)
    const answers = await Promise.all(Array.from({ length }, (_, index) => ask(source, firstPort + at + index)))
    for (const answer of answers) counts[answer] = (counts[answer] ?? 0) + 1
  }
  results.push(counts)
}
console.log(JSON.stringify(results))

function ask(source: string, from: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4')
    let tries = 0
    const timer = setInterval(send, patienceMs)
    const end = (settle: () => void) => {
      clearInterval(timer)
      socket.close()
      settle()
    }
    function send(): void {
      tries += 1
      if (tries > mostTries) end(() => reject(new Error(`no answer from ${address} to port ${from}`)))
      else socket.send('which?', Number(port), address, () => {})
    }
    socket.on('error', (error) => end(() => reject(error)))
    socket.on('message', (answer) => end(() => resolve(String(answer))))
    socket.bind(from, source, send)
  })
}
