/** Sends datagrams back as they are, and to `name?` its name: `datagram-echo.ts PORT NAME`. */
import { createSocket } from 'node:dgram'
import process from 'node:process'

const [port, name = ''] = process.argv.slice(2)
const socket = createSocket('udp4', (message, from) => {
  socket.send(String(message) === 'name?' ? name : message, from.port, from.address)
})
socket.bind(Number(port), '0.0.0.0', () => console.log('listening'))
