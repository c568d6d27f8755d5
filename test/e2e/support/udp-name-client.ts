/** Sends a datagram to `udp-name-client.ts HOST PORT`, again each second, and prints the first answer. */
import { createSocket } from 'node:dgram'
import process from 'node:process'

const [host, port] = process.argv.slice(2)
const socket = createSocket('udp4', (message) => {
  console.log(message.toString())
  process.exit(0)
})
const send = () => socket.send('hello', Number(port), host, () => {})
send()
setInterval(send, 1_000)
setTimeout(() => process.exit(1), 10_000)
