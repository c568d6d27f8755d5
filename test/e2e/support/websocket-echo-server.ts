/** Sends each WebSocket message back: `websocket-echo-server.ts PORT`. Knows messages of one frame below 64 KiB. */
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import process from 'node:process'
import type { Duplex } from 'node:stream'

const keySuffix = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11' // RFC 6455 section 1.3
const closeOpcode = 8

const server = createServer((_request, response) => response.writeHead(426).end())
server.on('upgrade', (request, socket: Duplex) => {
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${keySuffix}`).digest('base64')
  const head = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
  socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, '', ''].join('\r\n'))
  socket.on('error', () => {}) // The client is gone.
  let bytes = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
    for (let size = echoFrame(socket, bytes); size > 0; size = echoFrame(socket, bytes)) bytes = bytes.subarray(size)
  })
})
server.listen(Number(process.argv[2]), '0.0.0.0', () => console.log('listening'))

/** Answers the first frame when it is whole; gives its size, or 0. */
function echoFrame(socket: Duplex, bytes: Buffer): number {
  if (bytes.length < 2) return 0
  const short = bytes.readUInt8(1) & 0x7f
  const headBytes = short === 126 ? 4 : 2
  if (bytes.length < headBytes) return 0
  const length = short === 126 ? bytes.readUInt16BE(2) : short
  const size = headBytes + 4 + length
  if (bytes.length < size) return 0
  const mask = bytes.subarray(headBytes, headBytes + 4)
  const payload = bytes.subarray(headBytes + 4, size).map((byte, index) => byte ^ (mask[index % 4] ?? 0))
  const head = Buffer.from(bytes.subarray(0, headBytes))
  head.writeUInt8(head.readUInt8(1) & 0x7f, 1)
  socket.write(Buffer.concat([head, payload]))
  if ((bytes.readUInt8(0) & 0x0f) === closeOpcode) socket.end()
  return size
}
