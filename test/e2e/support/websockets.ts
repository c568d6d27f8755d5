/** `websockets.ts serve ADDRESS PORT` and `websockets.ts open ADDRESS PORT COUNT`: WebSockets on which nothing is said. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import process from 'node:process'

const [role = '', address = '', port = '', count = '0'] = process.argv.slice(2)
// RFC 6455 section 4.2.2.
const suffix = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

if (role === 'serve') {
  const server = createServer()
  server.on('upgrade', ({ headers }, socket) => {
    const accept = createHash('sha1').update(`${headers['sec-websocket-key']}${suffix}`).digest('base64')
    socket.on('error', () => {})
    socket.resume()
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    )
  })
  server.listen(Number(port), address, () => console.log('listening'))
} else {
  const sockets: WebSocket[] = []
  while (sockets.length < Number(count)) {
    const socket = new WebSocket(`ws://${address}:${port}/`)
    sockets.push(socket)
    socket.addEventListener('close', () => console.log('lost'))
    await once(socket, 'open')
  }
  console.log(`open ${sockets.length}`)
}
