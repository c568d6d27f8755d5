import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import { readFrame } from '../frames.ts'
import { RecordBook } from '../records/record-book.ts'
import { Broadcast } from './broadcast.ts'
import { Session } from './session.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-broadcast-'))
const book = await RecordBook.open({ stateDir: root, logger: silentLogger, metrics: createMetrics() })
after(async () => {
  await book[Symbol.asyncDispose]()
  await rm(root, { recursive: true, force: true })
})

const never = new AbortController().signal

/** Sessions of these agents, which have been told of each other, and a broadcast to them. */
async function setUp(names: readonly string[], debounceMs = 1) {
  const tasks = new TaskGroup((_name, error) => assert.fail(String(error)))
  const sessions = new Map<string, Session>()
  const streams = new Map<string, ByteStream>()
  for (const name of names) {
    const [near, far] = createMemoryStreamPair()
    const session = new Session(far, { peerId: name, address: 'memory', abort: () => {} })
    sessions.set(name, session)
    streams.set(name, near)
    tasks.run(name, (signal) => session.run({ book, connected: names, known: {} }, signal))
    assert.deepEqual(await next(near), { type: 'presence', reset: true, up: [...names], down: [] })
  }
  const broadcast = new Broadcast({ book, sessions, debounceMs, random: () => 0 })
  return { tasks, sessions, streams, broadcast }
}

async function next(stream: ByteStream): Promise<unknown> {
  return await readFrame(stream, 100_000, never)
}

test('what happens within a round is told together, each name as it is at the end', async () => {
  const { tasks, sessions, streams, broadcast } = await setUp(['edge-a', 'edge-b'])
  await using _tasks = tasks
  const gone = sessions.get('edge-b')
  sessions.delete('edge-b')
  broadcast.note({ presence: 'edge-b' })
  broadcast.note({ presence: 'edge-a' })
  broadcast.note({ presence: 'edge-b' })
  tasks.run('broadcast', (signal) => broadcast.run(signal))
  const stream = streams.get('edge-a')
  assert.ok(stream !== undefined && gone !== undefined)
  assert.deepEqual(await next(stream), { type: 'presence', reset: false, up: ['edge-a'], down: ['edge-b'] })
  sessions.set('edge-b', gone)
  broadcast.note({ presence: 'edge-b' })
  assert.deepEqual(await next(stream), { type: 'presence', reset: false, up: ['edge-b'], down: [] })
})

test('the more agents there are to tell, the longer changes are collected, up to two seconds', async () => {
  const { tasks, sessions, broadcast } = await setUp([], 50)
  await using _tasks = tasks
  const session = new Session(createMemoryStreamPair()[0], { peerId: '', address: '', abort: () => {} })
  const roundOf = (count: number) => {
    for (let number = sessions.size; number < count; number++) sessions.set(`edge-${number}`, session)
    return broadcast.roundMs()
  }
  assert.deepEqual([roundOf(0), roundOf(10), roundOf(100), roundOf(5000)], [50, 65, 200, 2000])
})

test('rounds are not in step with those of other servers', () => {
  const roundWith = (random: number) =>
    new Broadcast({ book, sessions: new Map(), debounceMs: 100, random: () => random }).roundMs()
  assert.deepEqual([roundWith(0), roundWith(1)], [100, 75])
})
