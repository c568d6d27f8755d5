/** HTTP server of the lab; see index.ts for what it answers. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { testBytes } from './bytes.ts'
import { listen, readSettings } from './settings.ts'

const settings = readSettings()

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://lab')
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /':
      response.end(`${settings.name}\n`)
      return
    case 'GET /client':
      response.end(`${request.socket.remoteAddress}:${request.socket.remotePort}\n`)
      return
    case 'GET /bytes': {
      const count = Number(url.searchParams.get('n') ?? 0)
      response.setHeader('content-length', count)
      await pipeline(Readable.from(testBytes(count, Number(url.searchParams.get('seed') ?? 0))), response)
      return
    }
    case 'POST /sha256': {
      const hash = createHash('sha256')
      for await (const chunk of request) hash.update(chunk)
      response.end(`${hash.digest('hex')}\n`)
      return
    }
    default:
      response.writeHead(404).end('not found\n')
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => {
    console.error(error)
    response.destroy()
  })
})
listen(server, settings)
