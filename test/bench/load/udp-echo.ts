/**
 * Datagrams there and back: `udp-echo.ts server PORT` answers each with itself; `udp-echo.ts client ADDRESS PORT CLIENTS
 * WINDOW SECONDS` has so many clients, each with so many datagrams under way, and prints answers per second.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

const [role = '', ...words] = process.argv.slice(2)
const message = Buffer.alloc(64, 'edgemesh')
/** Datagrams may be lost; a client that hears nothing for this long begins anew. */
const patienceMs = 100

if (role === 'server') {
  const socket = createSocket('udp4')
  socket.on('message', (received, { port, address }) => socket.send(received, port, address))
  socket.bind(Number(words[0]), () => console.log('listening'))
} else {
  const [address = '', port = '', clients = '', window = '', seconds = ''] = words
  const ended = new AbortController()
  const counts = Array.from({ length: Number(clients) }, () => ask(address, Number(port), Number(window), ended.signal))
  const startedMs = performance.now()
  await delay(Number(seconds) * 1_000)
  const elapsed = (performance.now() - startedMs) / 1_000
  ended.abort()
  const answers = (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
  console.log((answers / elapsed).toFixed(0))
  process.exit()
}

async function ask(address: string, port: number, window: number, signal: AbortSignal): Promise<number> {
  const socket = createSocket('udp4')
  socket.connect(port, address)
  await once(socket, 'connect')
  let answers = 0
  let heardMs = performance.now()
  const fill = () => {
    for (let sent = 0; sent < window; sent++) socket.send(message, () => {})
  }
  // A refusal is a lost datagram like others.
  socket.on('error', () => {})
  socket.on('message', () => {
    answers += 1
    heardMs = performance.now()
    if (!signal.aborted) socket.send(message, () => {})
  })
  fill()
  while (!signal.aborted) {
    await delay(patienceMs, undefined, { signal }).catch(() => {})
    if (performance.now() - heardMs > patienceMs) fill()
  }
  socket.close()
  return answers
}
