/**
 * Bytes one way, and a word when all are there.
 *
 *      serve PORT BYTES              answers each connection that has sent so many bytes
 *      send ADDRESS PORT BYTES       sends them as soon as somebody is there, and prints what comes of it
 */
import { connect, createServer } from 'node:net'
import process from 'node:process'

const [role = '', ...rest] = process.argv.slice(2)
if (role === 'serve') serve(Number(rest[0]), Number(rest[1]))
else send(rest[0] ?? '', Number(rest[1]), Number(rest[2]))

function serve(port: number, bytes: number): void {
  const server = createServer((socket) => {
    let received = 0
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      received += chunk.length
      if (received >= bytes) socket.end('all is there\n')
    })
  })
  server.listen(port, () => console.log('listening'))
}

function send(host: string, port: number, bytes: number, attempts = 50): void {
  const socket = connect({ host, port })
  let isConnected = false
  socket.on('connect', () => {
    isConnected = true
    socket.write(Buffer.alloc(bytes))
  })
  socket.on('data', (chunk) => process.stdout.write(chunk))
  socket.on('error', (error) => {
    if (isConnected || attempts === 1) console.log(`broken: ${error.message}`)
    else setTimeout(() => send(host, port, bytes, attempts - 1), 200)
  })
  socket.on('close', () => isConnected && process.exit(0))
}
