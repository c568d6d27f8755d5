/**
 * Takes one connection, answers its name, and then takes no other for a while. The queue of the kernel is as short as
 * can be, so that further clients wait in their handshake.
 */
import { createServer } from 'node:net'
import { listen, readSettings } from './settings.ts'

const settings = readSettings()
const server = createServer((socket) => {
  socket.on('error', () => {}) // The client did not wait.
  socket.end(`${settings.name}\n`, () => {
    // Blocks the whole process, which is what keeps it from accepting.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, settings.delayMs)
  })
})
listen(server, settings, 1)
