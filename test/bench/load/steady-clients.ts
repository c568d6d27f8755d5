/**
 * A request each millisecond over kept connections, whatever the answers do: `steady-clients.ts ADDRESS PORT SECONDS`.
 * Prints the milliseconds that half and 99 of 100 answers took. A connection is used again when its answer is there; when all
 * are waiting the request begins to count all the same, and goes out when one is free.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

const [host = '', port = '0', seconds = '3'] = process.argv.slice(2)
const connections = 32
const request = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
const latencies: number[] = []
const dueMs: number[] = []
const free: Socket[] = []

function send(): void {
  while (dueMs.length > 0) {
    const socket = free.pop()
    if (socket === undefined) return
    const startedMs = dueMs.shift() ?? 0
    socket.once('data', () => {
      latencies.push(performance.now() - startedMs)
      free.push(socket)
      send()
    })
    socket.write(request)
  }
}

for (let count = 0; count < connections; count++) {
  const socket = connect({ host, port: Number(port), noDelay: true })
  await once(socket, 'connect')
  free.push(socket)
}
const until = performance.now() + Number(seconds) * 1000
for (let dueAt = performance.now(); dueAt < until; dueAt += 1) {
  const waitMs = dueAt - performance.now()
  if (waitMs > 0) await delay(waitMs)
  dueMs.push(dueAt)
  send()
}
await delay(500)
latencies.sort((one, other) => one - other)
const at = (part: number) => latencies[Math.floor(latencies.length * part)]?.toFixed(3)
console.log(`${at(0.5)} ${at(0.99)}`)
process.exit(0)
