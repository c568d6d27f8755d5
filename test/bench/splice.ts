/**
 * How fast one process copies TCP through `splice` on loopback, with 1 and 8 connections, in Gbit/s and CPU seconds
 * per GB. Clients and servers run in this very process, so only runs on the same machine compare:
 * `node test/bench/splice.ts [megabytes per connection]`.
 */
import { once } from 'node:events'
import process from 'node:process'
import { createDirectDialer, splice, startTcpListener, type TcpListener } from '../../src/net/index.ts'

const never = new AbortController().signal
const dialer = createDirectDialer()
const block = Buffer.alloc(256 * 1024, 'edgemesh')

function dialTo({ address, port }: TcpListener) {
  return dialer.dial({ protocol: 'tcp', address, port }, never)
}

async function carry(connections: number, megabytes: number): Promise<void> {
  await using sink = await startTcpListener({
    host: '127.0.0.1',
    port: 0,
    onConnection: (socket) => void socket.resume().once('end', () => socket.end()),
  })
  await using relay = await startTcpListener({
    host: '127.0.0.1',
    port: 0,
    onConnection: (socket) => void dialTo(sink).then((upstream) => splice(socket, upstream, never)),
  })
  const startedMs = performance.now()
  const cpuBefore = process.cpuUsage()
  const send = async () => {
    const client = await dialTo(relay)
    client.resume()
    for (let sent = 0; sent < megabytes * 4; sent++) if (!client.write(block)) await once(client, 'drain')
    client.end()
    await once(client, 'close')
  }
  await Promise.all(Array.from({ length: connections }, send))
  const seconds = (performance.now() - startedMs) / 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  const gigabytes = (connections * megabytes) / 1024
  const rate = ((gigabytes * 8.59) / seconds).toFixed(2)
  const cpu = ((user + system) / 1e6 / gigabytes).toFixed(2)
  process.stdout.write(`${connections} connections: ${rate} Gbit/s, ${cpu} CPU s/GB\n`)
}

const megabytes = Number(process.argv[2] ?? 256)
await carry(1, megabytes)
await carry(8, Math.ceil(megabytes / 8))
