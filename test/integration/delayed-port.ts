/** A TCP port that passes connections on and holds back what they say, as a long line does. */

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** Each way takes `oneWayMs`; nothing is lost or out of order. */
export async function startDelayedPort(
  targetPort: number,
  oneWayMs: number,
): Promise<{ readonly port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true })
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.setNoDelay(true)
      from.on('data', (bytes) => void setTimeout(() => to.writable && to.write(bytes), oneWayMs))
      from.on('end', () => void setTimeout(() => to.end(), oneWayMs))
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        setTimeout(() => to.destroy(), oneWayMs)
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
