/** Answers any datagram with a name: `udp-name-server.ts PORT NAME`. */
import { createSocket } from 'node:dgram'
import process from 'node:process'

const [port, name = ''] = process.argv.slice(2)
const socket = createSocket('udp4', (_message, { address, port: from }) => socket.send(name, from, address))
socket.bind(Number(port), '0.0.0.0', () => console.log('listening'))
