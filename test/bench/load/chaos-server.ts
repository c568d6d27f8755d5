/**
 * What the pods `web-NODE` of the chaos run serve: `chaos-server.ts NAME`. TCP flows whose bytes are checked (see
 * `chaos-clients.ts`), `GET /bytes/N/SEED`, and datagrams that come back with the name in front. Says each wrong byte as a line of
 * JSON, and at SIGUSR2 how many flows are open.
 */
import { createSocket } from 'node:dgram'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type Socket } from 'node:net'
import process from 'node:process'
import { testByteSource } from '../../lab/servers/bytes.ts'
import { chaosPorts, checkBytes, type FlowHead, paceMs, say, stepOf } from './chaos-flows.ts'

const [name = ''] = process.argv.slice(2)
const open = new Set<Socket>()

const flows = createServer({ allowHalfOpen: true }, (socket) => {
  open.add(socket)
  socket.on('error', () => {}) // The client is gone, or was told to be.
  socket.on('close', () => open.delete(socket))
  let head = Buffer.alloc(0)
  // Who goes away before saying anything is let go.
  const onEnd = () => socket.end()
  socket.on('end', onEnd)
  const onData = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\n')
    if (end < 0) return
    socket.off('data', onData).off('end', onEnd)
    const flow: FlowHead = JSON.parse(head.subarray(0, end).toString())
    serve(socket, flow)
    const rest = head.subarray(end + 1)
    if (rest.length > 0) socket.emit('data', rest)
  }
  socket.on('data', onData)
})

function serve(socket: Socket, flow: FlowHead): void {
  const check = checkBytes(flow.seed, (problem) => {
    say({ what: 'corrupt', flow: flow.id, kind: flow.kind, side: 'server', problem })
    socket.resetAndDestroy()
  })
  switch (flow.kind) {
    case 'lines':
      socket.on('data', (chunk) => socket.write(chunk))
      socket.on('end', () => socket.end())
      return
    case 'stream':
      socket.on('data', check)
      sendPaced(socket, flow)
      socket.on('end', () => socket.end())
      return
    case 'download':
      sendPaced(socket, flow)
      return
    case 'gulps':
      sendFreely(socket, flow, Number.POSITIVE_INFINITY)
      return
    case 'fetch':
      sendFreely(socket, flow, flow.bytes)
      return
    case 'upload': {
      let received = 0
      socket.on('data', (chunk: Buffer) => {
        received += chunk.length
        check(chunk)
      })
      socket.on('end', () => {
        if (received !== flow.bytes) {
          const problem = `${received} of ${flow.bytes} bytes before an end in order`
          say({ what: 'truncated', flow: flow.id, kind: flow.kind, side: 'server', problem })
        }
        socket.end(`${received}\n`)
      })
      return
    }
    default:
      flow.kind satisfies never
  }
}

function sendPaced(socket: Socket, flow: FlowHead): void {
  const next = testByteSource(flow.seed + 1)
  const timer = setInterval(() => {
    if (socket.writable && !socket.writableNeedDrain) socket.write(next(stepOf(flow.kind)))
  }, paceMs)
  socket.on('close', () => clearInterval(timer))
}

function sendFreely(socket: Socket, flow: FlowHead, bytes: number): void {
  const next = testByteSource(flow.seed + 1)
  let left = bytes
  const fill = () => {
    while (left > 0 && socket.writable) {
      const count = Math.min(left, 32_768)
      left -= count
      if (!socket.write(next(count))) break
    }
    if (left === 0) socket.end()
  }
  socket.on('drain', fill)
  fill()
}

const web = createHttpServer((request, response) => {
  const [, what = '', count = '0', seed = '0'] = (request.url ?? '').split('/')
  response.setHeader('connection', 'close')
  response.setHeader('x-name', name)
  response.end(what === 'bytes' ? testByteSource(Number(seed))(Number(count)) : name)
})

const datagrams = createSocket('udp4')
datagrams.on('message', (message, { port, address }) => datagrams.send(`${name} ${message}`, port, address, () => {}))

process.on('SIGUSR2', () => say({ what: 'open', count: open.size }))
datagrams.bind(chaosPorts.udp, () => {
  web.listen(chaosPorts.http, () => flows.listen(chaosPorts.flows, () => console.log('listening')))
})
