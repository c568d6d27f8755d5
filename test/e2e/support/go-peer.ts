/**
 * A node as the Go system makes it: `go-peer.ts SETTINGS`, as JSON. It has the identity that follows from its name, no
 * records and no directory, serves whatever target it is asked for, and asks for targets itself. Prints `ready`, then
 * what each request brought, as one line of JSON, and goes on serving until it is killed.
 */
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { createDirectDialer, splice } from '../../../src/net/index.ts'
import { silentLogger } from '../../../src/observability/index.ts'
import { createHost, type Host } from '../../../src/tunnel/host/host.ts'
import type { PeerConnection } from '../../../src/tunnel/host/peer-connection.ts'
import { deriveIdentity } from '../../../src/tunnel/identity/derived-key.ts'
import { KeyRing } from '../../../src/tunnel/identity/key-ring.ts'
import { readPreSharedKey } from '../../../src/tunnel/identity/pre-shared-key.ts'
import { answerNames, discoveryProtocol } from '../../../src/tunnel/legacy/discovery.ts'
import { proxyMessages, proxyProtocol } from '../../../src/tunnel/legacy/proxy-handshake.ts'

/** What the node is told. */
export interface GoPeerSettings {
  readonly name: string
  readonly psk: string
  readonly listenPort: number
  /** Relays for others, instead of reserving at a relay. */
  readonly isRelay: boolean
  /** Found in the LAN under this name. */
  readonly rendezvous?: string
  /** Where the relay is, as `ADDRESS/tcp/PORT` of its multiaddress, and its name. */
  readonly relay?: { readonly name: string; readonly address: string }
  /** What it asks for through the relay: a page of a target on a node. */
  readonly requests: readonly { readonly nodeName: string; readonly address: string; readonly port: number }[]
}

const settings: GoPeerSettings = JSON.parse(process.argv[2] ?? '')
const never = new AbortController().signal
const attempts = 40

const host = await createHost({
  identity: await deriveIdentity(settings.name),
  keyRing: KeyRing.of(await readPreSharedKey(settings.psk)),
  listenPort: settings.listenPort,
  muxers: ['yamux'],
  maxStreamsPerConnection: 256,
  isRelay: settings.isRelay,
  rendezvous: settings.rendezvous,
  logger: silentLogger,
})
await serve(host)
await host.listen()
const relay = settings.relay === undefined ? undefined : await reserve(settings.relay)
console.log('ready')
for (const request of settings.requests) console.log(JSON.stringify(await ask(request)))

async function serve(on: Host): Promise<void> {
  await on.handle({
    protocol: proxyProtocol,
    maxStreams: 256,
    async onStream(stream) {
      const request = await proxyMessages.read(stream, never)
      if (request === undefined) return
      try {
        const upstream = await createDirectDialer().dial({ ...request, nodeName: undefined }, never)
        await proxyMessages.answerOk(stream, request, never)
        await splice(stream, upstream, never)
      } catch {
        // All that the Go system says.
        stream.write(Buffer.from('020802', 'hex'))
      }
    },
  })
  await on.handle({
    protocol: discoveryProtocol,
    maxStreams: 16,
    onStream: (stream) => void answerNames(stream, settings.name, never),
  })
}

async function reserve({ name, address }: { readonly name: string; readonly address: string }): Promise<string> {
  const { peerId } = await deriveIdentity(name)
  const connection = await untilIt(() => host.dial(`/ip4/${address}/p2p/${peerId}`, AbortSignal.timeout(5000)))
  await host.reserve(connection.peerId)
  return `/ip4/${address}/p2p/${peerId}/p2p-circuit`
}

async function ask({ nodeName, address, port }: GoPeerSettings['requests'][number]): Promise<string> {
  const { peerId } = await deriveIdentity(nodeName)
  const connection: PeerConnection = await untilIt(() => host.dial(`${relay}/p2p/${peerId}`, AbortSignal.timeout(5000)))
  const stream = await connection.openStream(proxyProtocol, AbortSignal.timeout(5000))
  try {
    await proxyMessages.request(stream, { protocol: 'tcp', nodeName, address, port }, AbortSignal.timeout(10_000))
  } catch (error) {
    return String(error)
  }
  stream.write(`GET / HTTP/1.0\r\nHost: ${address}\r\n\r\n`)
  return await text(stream)
}

/** The first success of several attempts: others may still be starting. */
async function untilIt<T>(attempt: () => Promise<T>): Promise<T> {
  for (let turn = 1; ; turn++) {
    try {
      return await attempt()
    } catch (error) {
      if (turn === attempts) throw error
      await delay(250)
    }
  }
}
