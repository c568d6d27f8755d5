/**
 * Connections to a TCP echo server, one after another: `tcp-clients.ts {address, port, count, concurrency}`. Of ten,
 * seven end after the echo, two shut down at once and read to the end, one resets after the echo.
 */
import { connect, type Socket } from 'node:net'
import process from 'node:process'
import { runLoad } from './report.ts'

interface Settings {
  readonly address: string
  readonly port: number
  readonly count: number
  readonly concurrency: number
}

const settings: Settings = JSON.parse(process.argv[2] ?? '')
const patienceMs = 15_000

await runLoad(settings, (index) => {
  const message = `connection ${index} `.padEnd(64 + (index % 512), '.')
  return converse(connect(settings.port, settings.address), message, index % 10)
})

function converse(socket: Socket, message: string, kind: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let echo = ''
  const fail = (reason: string) => {
    socket.destroy()
    reject(new Error(reason))
  }
  socket.setTimeout(patienceMs, () => fail(`silent for ${patienceMs} ms`))
  socket.on('error', ({ message: reason }) => fail(reason))
  socket.setEncoding('utf8').on('data', (text: string) => {
    echo += text
    if (echo.length < message.length) return
    if (kind === 0) {
      socket.resetAndDestroy()
      resolve()
    } else {
      socket.end()
    }
  })
  socket.on('end', () => {
    if (echo === message) resolve()
    else fail(`the echo ended after ${echo.length === 0 ? 'no' : 'some'} bytes`)
  })
  if (kind <= 2 && kind > 0) socket.end(message)
  else socket.write(message)
  return promise
}
