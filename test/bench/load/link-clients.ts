/**
 * Load for benches of links: `link-clients.ts bulk|connect|amount ADDRESS PORT COUNT SECONDS`. `bulk` sends on COUNT
 * connections and prints Gbit/s, as does `amount`, which ends after as many MB instead; `connect` opens COUNT at a time
 * for one request each and prints how many got their answer in a second.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

const [kind = '', host = '', port = '0', count = '1', seconds = '5'] = process.argv.slice(2)
const until = performance.now() + Number(seconds) * 1000
const block = Buffer.alloc(256 * 1024, 'edgemesh')
const request = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
let done = 0
const failures: string[] = []

async function bulk(): Promise<void> {
  const socket = connect({ host, port: Number(port) })
  socket.resume()
  let sent = 0
  while (kind === 'amount' ? sent < Number(seconds) * 1e6 : performance.now() < until) {
    sent += block.length
    if (!socket.write(block)) await once(socket, 'drain')
  }
  done += sent
  socket.end()
  await once(socket, 'close')
}

async function openAgain(): Promise<void> {
  while (performance.now() < until) {
    const socket = connect({ host, port: Number(port), noDelay: true })
    socket.write(request)
    try {
      const [chunk] = await once(socket, 'data')
      if (!String(chunk).endsWith('ok')) throw new Error(`answered ${chunk}`)
      done += 1
    } catch (error) {
      failures.push(String(error))
      await delay(10)
    }
    socket.resetAndDestroy()
  }
}

const started = performance.now()
await Promise.all(Array.from({ length: Number(count) }, kind === 'connect' ? openAgain : bulk))
const elapsed = (performance.now() - started) / 1000
console.log((kind === 'connect' ? done / elapsed : (done * 8) / elapsed / 1e9).toFixed(4))
if (failures.length > 0) console.error(`${failures.length} failed, the first by ${failures[0]}`)
