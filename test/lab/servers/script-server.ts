/**
 * Follows the script in the first line of each connection and prints what it has seen, as a line of JSON. The next
 * port closes each connection as soon as it is accepted.
 */
import { createServer, type Socket } from 'node:net'
import { runScript, type ScriptRequest } from './script.ts'
import { listen, readSettings } from './settings.ts'

const settings = readSettings()
const newline = 0x0a

function onConnection(socket: Socket): void {
  let head: Buffer = Buffer.alloc(0)
  const ignore = () => {} // The client is gone before it said what to do.
  const onData = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk])
    const end = head.indexOf(newline)
    if (end < 0) return
    socket.off('data', onData)
    socket.pause()
    if (end + 1 < head.length) socket.unshift(head.subarray(end + 1))
    const request: ScriptRequest = JSON.parse(head.toString('utf8', 0, end))
    void runScript(socket, request).then((report) => console.log(JSON.stringify(report)))
    socket.off('error', ignore)
    socket.resume()
  }
  socket.on('error', ignore)
  socket.on('data', onData)
}

listen(createServer({ allowHalfOpen: true, noDelay: true }, onConnection), settings)
createServer((socket) => socket.destroy()).listen({ host: settings.address, port: settings.port + 1 })
