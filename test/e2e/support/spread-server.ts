/** `spread-server.ts FIRST COUNT`: UDP on COUNT ports from FIRST on, each of which answers with its number. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import process from 'node:process'

const [first = '', count = ''] = process.argv.slice(2)
for (let port = Number(first); port < Number(first) + Number(count); port++) {
  const socket = createSocket('udp4')
  socket.on('message', (_message, from) => socket.send(String(port), from.port, from.address))
  socket.bind(port)
  await once(socket, 'listening')
}
console.log('listening')
