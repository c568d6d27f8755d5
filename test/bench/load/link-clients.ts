/**
 * Load for the bench of links: `link-clients.ts bulk|connect ADDRESS PORT COUNT SECONDS`. `bulk` sends on COUNT
 * connections and prints Gbit/s; `connect` opens COUNT at a time for one request each and prints connections per second.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import process from 'node:process'

const [kind = '', host = '', port = '0', count = '1', seconds = '5'] = process.argv.slice(2)
const until = performance.now() + Number(seconds) * 1000
const block = Buffer.alloc(256 * 1024, 'edgemesh')
const request = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
let done = 0

async function bulk(): Promise<void> {
  const socket = connect({ host, port: Number(port) })
  socket.resume()
  while (performance.now() < until) {
    done += block.length
    if (!socket.write(block)) await once(socket, 'drain')
  }
  socket.end()
  await once(socket, 'close')
}

async function openAgain(): Promise<void> {
  while (performance.now() < until) {
    const socket = connect({ host, port: Number(port), noDelay: true })
    socket.write(request)
    const [chunk] = await once(socket, 'data')
    if (!String(chunk).endsWith('ok')) throw new Error(`answered ${chunk}`)
    socket.resetAndDestroy()
    done += 1
  }
}

const started = performance.now()
await Promise.all(Array.from({ length: Number(count) }, kind === 'bulk' ? bulk : openAgain))
const elapsed = (performance.now() - started) / 1000
console.log((kind === 'bulk' ? (done * 8) / elapsed / 1e9 : done / elapsed).toFixed(2))
