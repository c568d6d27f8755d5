/** Resets each connection as soon as the client has sent something. */
import { createServer } from 'node:net'
import { listen, readSettings } from './settings.ts'

const server = createServer((socket) => {
  socket.on('error', () => {}) // The client was faster.
  socket.once('data', () => socket.resetAndDestroy())
})
listen(server, readSettings())
