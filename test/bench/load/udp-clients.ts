/**
 * Flows of datagrams to a UDP echo server, each from a port of its own: `udp-clients.ts {address, port, count, concurrency}`.
 * A datagram may be lost, so a question is asked up to five times.
 */
import { createSocket } from 'node:dgram'
import process from 'node:process'
import { runLoad } from './report.ts'

interface Settings {
  readonly address: string
  readonly port: number
  readonly count: number
  readonly concurrency: number
}

const settings: Settings = JSON.parse(process.argv[2] ?? '')
const patienceMs = 1_000
const mostAttempts = 5

await runLoad(settings, (index) => ask(`flow ${index} `.padEnd(64 + (index % 512), '.')))

function ask(question: string): Promise<void> {
  const socket = createSocket('udp4')
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let attempts = 0
  const send = () => {
    if (attempts++ < mostAttempts) socket.send(question, settings.port, settings.address)
    else reject(new Error(`no answer to ${mostAttempts} datagrams`))
  }
  const again = setInterval(send, patienceMs)
  // A refusal is a lost datagram like others.
  socket.on('error', () => {})
  socket.on('message', (answer) => {
    if (answer.toString() === question) resolve()
    else reject(new Error('the answer to another question'))
  })
  send()
  return promise.finally(() => {
    clearInterval(again)
    socket.close()
  })
}
