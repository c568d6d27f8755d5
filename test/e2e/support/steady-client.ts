/** Sends a numbered line every 50 ms to an echo server and prints what comes back, until the connection ends. */
import { connect } from 'node:net'
import process from 'node:process'
import { createInterface } from 'node:readline'

const [address = '', port = ''] = process.argv.slice(2)
const socket = connect({ host: address, port: Number(port) })
let sent = 0
let seen = 0
socket.on('connect', () => setInterval(() => socket.write(`${++sent}\n`), 50))
const lines = createInterface({ input: socket })
lines.on('error', () => {}) // Those of the socket, which are told below.
lines.on('line', (line) => {
  seen += 1
  console.log(Number(line) === seen ? `echo ${seen}` : `lost: got ${line} instead of ${seen}`)
})
socket.on('error', (error) => console.log(`broken: ${error.message}`))
socket.on('close', () => {
  console.log('closed')
  process.exit(0)
})
