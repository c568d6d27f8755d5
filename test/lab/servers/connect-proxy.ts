/** An HTTP proxy of a site: opens connections (CONNECT), and nothing else; see index.ts. */
import { createServer, type Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import process from 'node:process'
import { listen, readSettings, type Settings } from './settings.ts'

/** Whom a proxy serves. */
export interface ProxyRules {
  /** `user:password`; everybody is served when empty. */
  readonly credentials?: string
  /** Ports that may be connected to; all when empty. */
  readonly allowedPorts?: readonly number[]
}

/** Makes a proxy that does not listen yet; it emits `tunnel` with HOST:PORT for each connection that it opens. */
export function createConnectProxy({ credentials = '', allowedPorts = [] }: ProxyRules): Server {
  const expected = `Basic ${Buffer.from(credentials).toString('base64')}`
  const server = createServer((_, response) => void response.writeHead(405).end())
  server.on('connect', (request, client: Socket) => {
    client.on('error', () => {})
    const target = new URL(`http://${request.url}`)
    const port = Number(target.port || 80)
    if (credentials !== '' && request.headers['proxy-authorization'] !== expected) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="site"\r\n\r\n')
      return
    }
    if (allowedPorts.length > 0 && !allowedPorts.includes(port)) {
      client.end('HTTP/1.1 403 Forbidden\r\n\r\n')
      return
    }
    const upstream = connect({ host: target.hostname, port, noDelay: true })
    upstream.once('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'))
    upstream.once('connect', () => {
      server.emit('tunnel', request.url)
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      upstream.pipe(client).pipe(upstream)
    })
    client.once('close', () => upstream.destroy())
    upstream.once('close', () => client.destroy())
  })
  return server
}

if (process.argv[1] === import.meta.filename) {
  const settings: Settings & ProxyRules = readSettings()
  const server = createConnectProxy(settings)
  server.on('tunnel', (target: string) => console.log(`opened ${target}`))
  listen(server, settings)
}
