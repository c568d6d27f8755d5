/**
 * Many agents whose server starts anew:
 *
 *     50 links to servers, as agents keep them, each with a host and a record of its own ---- server
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createMetrics, silentLogger } from '../../src/observability/index.ts'
import { TaskGroup } from '../../src/runtime/index.ts'
import { OwnRecord } from '../../src/tunnel/agent/own-record.ts'
import { ServerLink } from '../../src/tunnel/agent/server-link.ts'
import { createHost } from '../../src/tunnel/host/host.ts'
import { parseServerAddress } from '../../src/tunnel/host/server-address.ts'
import { loadMembership } from '../../src/tunnel/identity/load-membership.ts'
import { RecordBook } from '../../src/tunnel/records/record-book.ts'
import { eventually, startTestServer, TestFolder } from './tunnel-mesh.ts'

const count = 50
const patienceMs = 30_000

/** A link with all that it needs, in a book that all share. */
async function startLink(folder: TestFolder, name: string, port: number, book: RecordBook, tasks: TaskGroup) {
  const psk = { enable: true, path: join(folder.path, 'psk-server'), previousPath: '' }
  const owner = { stateDir: join(folder.path, name), nodeName: name, role: 'agent' } as const
  const membership = await loadMembership(owner, { psk, identity: 'random' }, silentLogger)
  const host = await createHost({
    ...membership,
    listenPort: 0,
    muxers: ['yamux'],
    maxStreamsPerConnection: 64,
    isRelay: false,
    logger: silentLogger,
  })
  await host.listen()
  const ownRecord = await OwnRecord.create(
    { name, role: 'agent', identity: membership.identity, book, logger: silentLogger },
    [],
  )
  const link = new ServerLink({
    address: parseServerAddress(`127.0.0.1:${port}`),
    host,
    book,
    ownRecord,
    hasPreSharedKey: true,
    isDirectoryOptional: false,
    standing: new Map(),
    proxyOf: () => undefined,
    onSeen() {},
    onChange() {},
    onLost() {},
    logger: silentLogger,
  })
  tasks.run(name, (signal) => link.run(signal))
  return { link, [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() }
}

test('fifty agents are all registered again soon after their server has started anew', async (context) => {
  await using running = new AsyncDisposableStack()
  const folder = running.use(await TestFolder.create())
  const first = await startTestServer(folder)
  const { port } = first
  const stateDir = join(folder.path, 'book')
  const book = running.use(await RecordBook.open({ stateDir, logger: silentLogger, metrics: createMetrics() }))
  const hosts = running.use(new AsyncDisposableStack())
  const tasks = running.use(new TaskGroup((_name, error) => assert.fail(String(error))))
  const links: ServerLink[] = []
  for (let index = 0; index < count; index++) {
    links.push(hosts.use(await startLink(folder, `edge-${index}`, port, book, tasks)).link)
  }
  const registered = (server: typeof first) =>
    server.tunnel.status().records.filter(({ connected }) => connected).length
  await eventually('all are registered', () => registered(first) === count, patienceMs)
  assert.equal(first.tunnel.status().reservations, count)
  await first[Symbol.asyncDispose]()
  // As long as a server takes to start: by then their dials are as far apart as they get.
  await delay(2_000)
  const second = running.use(await startTestServer(folder, { port }))
  const tookMs = await eventually('all are registered again', () => registered(second) === count, patienceMs)
  context.diagnostic(`${count} agents were registered again after ${tookMs.toFixed(0)} ms`)
  assert.ok(links.every((link) => link.isUp))
  assert.equal(second.tunnel.status().reservations, count)
})
