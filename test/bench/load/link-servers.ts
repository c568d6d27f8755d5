/**
 * What the bench of links asks for: `link-servers.ts ADDRESS PORT [UPSTREAM]`. PORT answers every HTTP request with a few
 * bytes; PORT + 1 takes all that is sent. With UPSTREAM it is instead the yardstick: a plain splice of both ports to there.
 */
import { connect, createServer, type Socket } from 'node:net'
import process from 'node:process'

const [address = '', port = '0', upstream] = process.argv.slice(2)
const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')

function serve(offset: number, onSocket: (socket: Socket) => void): void {
  createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on('error', () => {})
    onSocket(socket)
  }).listen({ host: address, port: Number(port) + offset, backlog: 4096 })
}

function splice(offset: number): void {
  serve(offset, (socket) => {
    const other = connect({ host: upstream ?? '', port: Number(port) + offset, allowHalfOpen: true, noDelay: true })
    other.on('error', () => socket.destroy())
    socket.pipe(other)
    other.pipe(socket)
  })
}

if (upstream === undefined) {
  serve(0, (socket) => {
    // Requests of the bench fit one segment and are not pipelined.
    socket.on('data', () => socket.write(answer)).on('end', () => socket.end())
  })
  serve(1, (socket) => socket.resume().on('end', () => socket.end('done')))
} else {
  splice(0)
  splice(1)
}
console.log(`listening on ${address}`)
