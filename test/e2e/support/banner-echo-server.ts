/** Plays the TCP echo of the examples: `banner-echo-server.ts PORT NODE POD NAMESPACE ADDRESS`. */
import { createServer } from 'node:net'
import process from 'node:process'

const [port, node, pod, namespace, address] = process.argv.slice(2)
const server = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {}) // The client is gone.
  socket.write(`Welcome, you are connected to node ${node}.\n`)
  socket.write(`Running on Pod ${pod}, in namespace ${namespace}, with IP address ${address}.\n`)
  socket.pipe(socket)
})
server.listen(Number(port), '0.0.0.0', () => console.log('listening'))
