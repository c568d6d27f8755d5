/**
 * `many-ports.ts serve FIRST COUNT`: answers every connection to one of these ports with the number of the port.
 * `many-ports.ts ask COUNT FIRST PORTS`: connects once to port 80 of each of so many ClusterIPs, and prints as JSON how
 * many said what the Service's place in the list asks for, and what the first others said.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import process from 'node:process'
import { text } from 'node:stream/consumers'

/** The address of the Service at this place. */
export const clusterIPAt = (at: number): string => `10.96.${at >> 8}.${at & 255}`

/** The port that it leads to. */
export const backendPortAt = (at: number, first: number, ports: number): number => first + (at % ports)

const atOnce = 64

if (process.argv[2] === 'serve') await serve(Number(process.argv[3]), Number(process.argv[4]))
if (process.argv[2] === 'ask') await ask(Number(process.argv[3]), Number(process.argv[4]), Number(process.argv[5]))

async function serve(first: number, count: number): Promise<void> {
  for (let port = first; port < first + count; port++) {
    const server = createServer((socket) => socket.on('error', () => {}).end(`${port}`))
    server.listen(port)
    await once(server, 'listening')
  }
  console.log('ready')
}

async function ask(count: number, first: number, ports: number): Promise<void> {
  const wrong: string[] = []
  let next = 0
  let right = 0
  const askOn = async () => {
    while (next < count) {
      const at = next++
      const answer = await answerOf(clusterIPAt(at))
      if (answer === `${backendPortAt(at, first, ports)}`) right += 1
      else wrong.push(`${clusterIPAt(at)}: ${answer}`)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, askOn))
  console.log(JSON.stringify({ right, wrong: wrong.slice(0, 5) }))
}

async function answerOf(host: string): Promise<string> {
  const socket = connect({ host, port: 80, timeout: 20_000 })
  socket.once('timeout', () => socket.destroy(new Error('no answer for 20 s')))
  try {
    return await text(socket)
  } catch (error) {
    return String(error)
  }
}
