/** TCP echo: sends back what it receives, and ends when the client does. */
import { createServer } from 'node:net'
import { listen, readSettings } from './settings.ts'

const server = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {}) // The client is gone.
  socket.pipe(socket)
})
listen(server, readSettings())
