import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import { encodeFrame, readFrame } from '../frames.ts'
import { RecordBook } from '../records/record-book.ts'
import { type News, newsOfCapped, Session, type SessionStart } from './session.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-session-'))
const book = await RecordBook.open({ stateDir: root, logger: silentLogger, metrics: createMetrics() })
after(async () => {
  await book[Symbol.asyncDispose]()
  await rm(root, { recursive: true, force: true })
})

const patienceMs = 5_000
const greeting = { type: 'presence', reset: true, up: ['edge-a'], down: [] }

/** A session whose stream holds next to nothing: it is slow as soon as anything is written that nobody reads. */
function start(given: Partial<SessionStart> = {}) {
  const tasks = new TaskGroup((_name, error) => assert.fail(String(error)))
  const [near, far] = createMemoryStreamPair({ highWaterMark: 1 })
  const session = new Session(far, { peerId: 'edge-a', address: 'memory', abort: () => {} })
  tasks.run('session', (signal) => session.run({ book, connected: ['edge-a'], known: {}, ...given }, signal))
  const read = async () => await readFrame(near, 100_000, AbortSignal.timeout(patienceMs))
  return { tasks, session, read }
}

function presenceNews(name: string, isUp: boolean): News {
  const [up, down] = isUp ? [[name], []] : [[], [name]]
  const frames = [encodeFrame({ type: 'presence', reset: false, up, down })]
  return { presence: new Map([[name, isUp]]), records: new Set(), frames }
}

test('an agent that is slow when nodes are capped hears of it when it can listen again, and only how it stands then', async () => {
  const { tasks, session, read } = start({ capped: { 'edge-a': 'used up' } })
  await using _tasks = tasks
  session.tell(newsOfCapped({ 'edge-b': 'used up' }))
  session.tell(newsOfCapped({ 'edge-c': 'used up' }))
  assert.deepEqual(await read(), greeting)
  assert.deepEqual(await read(), { type: 'capped', nodes: { 'edge-a': 'used up' } })
  assert.deepEqual(await read(), { type: 'capped', nodes: { 'edge-c': 'used up' } })
  session.tell(presenceNews('edge-d', true))
  assert.deepEqual(await read(), { type: 'presence', reset: false, up: ['edge-d'], down: [] }, 'and nothing twice')
})

test('that nobody is capped any more is told as well', async () => {
  const { tasks, session, read } = start()
  await using _tasks = tasks
  session.tell(newsOfCapped({ 'edge-b': 'used up' }))
  session.tell(newsOfCapped({}))
  assert.deepEqual(await read(), greeting)
  assert.deepEqual(await read(), { type: 'capped', nodes: {} })
})

test('what is kept for an agent that never reads is one state, whatever happens meanwhile', async () => {
  const { tasks, session, read } = start()
  await using _tasks = tasks
  for (let round = 0; round < 1000; round++) {
    session.tell(presenceNews('edge-b', round % 2 === 1))
    session.tell(newsOfCapped({ 'edge-b': `round ${round}` }))
  }
  assert.ok(session.stream.writableLength < 1000, `${session.stream.writableLength} bytes wait`)
  assert.deepEqual(await read(), greeting)
  assert.deepEqual(await read(), { type: 'presence', reset: false, up: ['edge-b'], down: [] })
  assert.deepEqual(await read(), { type: 'capped', nodes: { 'edge-b': 'round 999' } })
})
