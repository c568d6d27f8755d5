/**
 * `integrity-client.ts ADDRESS PORT COUNT BYTES`: sends BYTES on each of COUNT connections to an echo server in pieces of
 * random sizes, reads slowly now and then, and prints `intact` when what comes back is what was sent.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import process from 'node:process'

const [address = '', port = '', count = '1', total = '1'] = process.argv.slice(2)
const source = randomBytes(4 * 1024 * 1024)

async function carry(index: number): Promise<void> {
  const socket = connect({ host: address, port: Number(port), allowHalfOpen: true })
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  let bytes = 0
  socket.on('data', (chunk) => {
    received.update(chunk)
    bytes += chunk.length
    if (index % 2 === 0 || randomInt(50) > 0) return
    socket.pause()
    setTimeout(() => socket.resume(), 5)
  })
  const ended = once(socket, 'end')
  for (let left = Number(total); left > 0; ) {
    const start = randomInt(source.length / 2)
    const piece = source.subarray(start, start + Math.min(left, 1 + randomInt(300_000)))
    left -= piece.length
    sent.update(piece)
    if (!socket.write(piece)) await once(socket, 'drain')
  }
  socket.end()
  await ended
  if (bytes !== Number(total)) throw new Error(`connection ${index}: ${bytes} of ${total} bytes came back`)
  if (sent.digest('hex') !== received.digest('hex')) throw new Error(`connection ${index}: other bytes came back`)
}

await Promise.all(Array.from({ length: Number(count) }, (_, index) => carry(index)))
console.log('intact')
