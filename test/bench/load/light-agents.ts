/**
 * Light agents in one process: `light-agents.ts {server, port, pskFile, dir, first, count}`. Each has an identity and keeps
 * a link to the server by the code of a real agent: reservation, session with the directory, and the same again when the
 * connection is lost. What they hear of others goes to one book that all share. They come one after another and stay
 * until the process is stopped. Prints `connected N` as they come, and `up NAME TIME` each time one is registered.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createMetrics, silentLogger } from '../../../src/observability/index.ts'
import { OwnRecord } from '../../../src/tunnel/agent/own-record.ts'
import { ServerLink } from '../../../src/tunnel/agent/server-link.ts'
import { createHost } from '../../../src/tunnel/host/host.ts'
import { parseServerAddress } from '../../../src/tunnel/host/server-address.ts'
import { loadMembership } from '../../../src/tunnel/identity/load-membership.ts'
import { RecordBook } from '../../../src/tunnel/records/record-book.ts'

interface Settings {
  readonly server: string
  readonly port: number
  readonly pskFile: string
  readonly dir: string
  readonly first: number
  readonly count: number
}

const settings: Settings = JSON.parse(process.argv[2] ?? '')
const stopped = new AbortController()
process.once('SIGTERM', () => stopped.abort())
const bookDir = join(settings.dir, `book-${settings.first}`)
await mkdir(bookDir, { recursive: true })
const book = await openSharedBook(bookDir)
const links: Promise<void>[] = []
for (let index = 0; index < settings.count && !stopped.signal.aborted; index++) {
  await enterMesh(`light-${settings.first + index}`)
  console.log(`connected ${index + 1}`)
}
await Promise.all(links)
process.exit()

/** A real agent looks at the signature of each record once; hundreds in a process would do so hundreds of times. */
async function openSharedBook(stateDir: string): Promise<RecordBook> {
  const shared = await RecordBook.open({ stateDir, logger: silentLogger, metrics: createMetrics() })
  const seen = new Set<string>()
  const offer = shared.offer.bind(shared)
  shared.offer = async (encoded) => {
    if (seen.has(encoded)) return 'known'
    seen.add(encoded)
    return await offer(encoded)
  }
  return shared
}

async function enterMesh(name: string): Promise<void> {
  const psk = { enable: true, path: settings.pskFile, previousPath: '' }
  const stateDir = join(settings.dir, name)
  await mkdir(stateDir, { recursive: true })
  const membership = await loadMembership(
    { stateDir, nodeName: name, role: 'agent' },
    { psk, identity: 'random' },
    silentLogger,
  )
  const host = await createHost({
    ...membership,
    listenPort: 0,
    muxers: ['yamux'],
    maxStreamsPerConnection: 64,
    isRelay: false,
    logger: silentLogger,
  })
  await host.listen()
  const { identity } = membership
  const ownRecord = await OwnRecord.create({ name, role: 'agent', identity, book, logger: silentLogger }, [
    `/ip4/${settings.server}/tcp/${host.listeningPort()}`,
  ])
  let wasUp = false
  const link: ServerLink = new ServerLink({
    address: parseServerAddress(`${settings.server}:${settings.port}`),
    host,
    book,
    ownRecord,
    hasPreSharedKey: true,
    isDirectoryOptional: false,
    standing: new Map(),
    proxyOf: () => undefined,
    // It calls back after each message; only the first one says that the server has taken us.
    onSeen: () => {
      if (!wasUp && link.isUp) console.log(`up ${name} ${Date.now()}`)
      wasUp = link.isUp
    },
    onChange: () => {
      wasUp &&= link.isUp
    },
    onLost: () => {},
    logger: silentLogger,
  })
  links.push(link.run(stopped.signal))
  for (let wait = 0; wait < 6_000 && !wasUp && !stopped.signal.aborted; wait++) await delay(10)
}
