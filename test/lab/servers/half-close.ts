/** Reads until the client has ended, and only then answers: with one line about what it got, and a long rest. */
import { createHash } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { testBytes } from './bytes.ts'
import { listen, readSettings } from './settings.ts'

const settings = readSettings()

async function answer(socket: Socket): Promise<void> {
  const hash = createHash('sha256')
  let bytes = 0
  // An iterator that is done would destroy the socket, and with it the way back.
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    hash.update(chunk)
    bytes += chunk.length
  }
  socket.write(`${JSON.stringify({ name: settings.name, bytes, sha256: hash.digest('hex') })}\n`)
  await pipeline(Readable.from(testBytes(settings.answerBytes)), socket)
}

const server = createServer({ allowHalfOpen: true }, (socket) => {
  answer(socket).catch((error: unknown) => console.error(error))
})
listen(server, settings)
