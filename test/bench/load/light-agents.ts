/**
 * Light agents in one process: `light-agents.ts {server, port, pskFile, dir, first, count}`. Each has an identity, a
 * connection with a reservation and a session with the directory like a real one, but ignores what it hears of
 * others. They come one after another and stay until the process is stopped.
 */
import { join } from 'node:path'
import process from 'node:process'
import { silentLogger } from '../../../src/observability/index.ts'
import { directoryProtocol } from '../../../src/tunnel/directory/messages.ts'
import { writeFrame } from '../../../src/tunnel/frames.ts'
import { createHost } from '../../../src/tunnel/host/host.ts'
import { loadMembership } from '../../../src/tunnel/identity/load-membership.ts'
import { signRecord } from '../../../src/tunnel/records/name-record.ts'

interface Settings {
  readonly server: string
  readonly port: number
  readonly pskFile: string
  readonly dir: string
  readonly first: number
  readonly count: number
}

const settings: Settings = JSON.parse(process.argv[2] ?? '')
const never = new AbortController().signal

for (let index = 0; index < settings.count; index++) {
  await enterMesh(`light-${settings.first + index}`)
  console.log(`connected ${index + 1}`)
}

async function enterMesh(name: string): Promise<void> {
  const psk = { enable: true, path: settings.pskFile, previousPath: '' }
  const membership = await loadMembership(
    { stateDir: join(settings.dir, name), nodeName: name, role: 'agent' },
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
  const connection = await host.dial(`/ip4/${settings.server}/tcp/${settings.port}`, AbortSignal.timeout(30_000))
  await host.reserve(connection.peerId)
  const stream = await connection.openStream(directoryProtocol, never)
  stream.resume().once('close', () => {
    console.log(`lost ${name}`)
    process.exitCode = 1
  })
  const { peerId, privateKey } = membership.identity
  const time = Date.now()
  const addresses = [`/ip4/${settings.server}/tcp/${host.listeningPort()}`]
  const record = await signRecord({ name, role: 'agent', peerId, sequence: time, addresses, time }, privateKey)
  await writeFrame(stream, { type: 'hello', record: record.encoded, known: {} }, never)
}
