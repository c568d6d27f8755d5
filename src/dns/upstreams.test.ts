import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SocketAddress } from '../net/index.ts'
import { type LogFields, type Logger, silentLogger } from '../observability/index.ts'
import { TaskGroup } from '../runtime/index.ts'
import { parseServer } from './resolv-conf.ts'
import { type ProbeResult, Upstreams } from './upstreams.ts'

const never = new Promise<never>(() => {})
const serverOf = (text: string): SocketAddress => parseServer(text)[0] ?? assert.fail(text)

interface Changes {
  readonly servers?: readonly string[]
  readonly isOwn?: (server: SocketAddress) => boolean
  readonly probe?: (server: SocketAddress) => Promise<ProbeResult>
}

/** Resolvers whose probes never end unless said. */
function createUpstreams({ servers = ['192.0.2.1', '192.0.2.2'], isOwn = () => false, probe = () => never }: Changes) {
  const known = { servers }
  const warnings: LogFields[] = []
  let changeCount = 0
  const tasks = new TaskGroup(assert.fail)
  const logger: Logger = { ...silentLogger, warn: (fields) => warnings.push(fields) }
  const upstreams = new Upstreams({
    servers: () => Promise.resolve(known.servers.map(serverOf)),
    purpose: 'names',
    isOwn,
    // A stopped group waits for its tasks, so a probe ends with the signal as real ones do.
    probe: (server, signal) => {
      const { promise, reject } = Promise.withResolvers<never>()
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      return Promise.race([probe(server), promise])
    },
    tasks,
    logger,
    onChange: () => changeCount++,
    probeBackoff: { firstMs: 1, maxMs: 1 },
  })
  return {
    upstreams,
    known,
    warnings,
    changes: () => changeCount,
    order: async () => (await upstreams.inOrder()).map(({ address }) => address),
    [Symbol.asyncDispose]: () => tasks[Symbol.asyncDispose](),
  }
}

/** Turns of the event loop until it holds. */
async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  const until = performance.now() + 10_000
  while (!(await holds())) {
    assert.ok(performance.now() < until, `does not come to be: ${holds}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

test('resolvers are asked in their order until more is known, then the fastest first', async () => {
  await using created = createUpstreams({})
  const { order, upstreams } = created
  assert.deepEqual(await order(), ['192.0.2.1', '192.0.2.2'])
  upstreams.answered(serverOf('192.0.2.1'), 200)
  upstreams.answered(serverOf('192.0.2.2'), 12)
  assert.deepEqual(await order(), ['192.0.2.2', '192.0.2.1'])
  assert.equal(upstreams.usualMsOf(serverOf('192.0.2.1')), 200)
  upstreams.answered(serverOf('192.0.2.1'), 100)
  assert.equal(upstreams.usualMsOf(serverOf('192.0.2.1')), 175)
})

test('a difference of little is no reason to leave the order', async () => {
  await using created = createUpstreams({})
  created.upstreams.answered(serverOf('192.0.2.1'), 9)
  created.upstreams.answered(serverOf('192.0.2.2'), 1)
  assert.deepEqual(await created.order(), ['192.0.2.1', '192.0.2.2'])
})

test('a resolver is dead after a refusal or two silences in a row, and asked last', async () => {
  await using created = createUpstreams({})
  const { order, upstreams } = created
  await order()
  upstreams.failed(serverOf('192.0.2.1'), false)
  assert.deepEqual(await order(), ['192.0.2.1', '192.0.2.2'])
  upstreams.answered(serverOf('192.0.2.1'), 5)
  upstreams.failed(serverOf('192.0.2.1'), false)
  assert.deepEqual(await order(), ['192.0.2.1', '192.0.2.2'])
  upstreams.failed(serverOf('192.0.2.1'), false)
  assert.deepEqual(await order(), ['192.0.2.2', '192.0.2.1'])
  assert.equal(upstreams.isAllDead, false)
  upstreams.failed(serverOf('192.0.2.2'), true)
  assert.equal(upstreams.isAllDead, true)
  assert.deepEqual(await order(), ['192.0.2.1', '192.0.2.2'])
})

test('a dead resolver is probed until it answers', async () => {
  let probes = 0
  const result = async (): Promise<ProbeResult> => {
    probes++
    return probes < 4 ? { kind: 'silent' } : { kind: 'answers', tookMs: 3 }
  }
  await using created = createUpstreams({ servers: ['192.0.2.1'], probe: result })
  await created.order()
  await eventually(() => created.upstreams.isAllDead)
  await eventually(() => !created.upstreams.isAllDead)
  assert.deepEqual([probes, created.upstreams.usualMsOf(serverOf('192.0.2.1'))], [4, 3])
})

test('a resolver that leads back here is dropped with a warning, and taken back when it no longer does', async () => {
  let loops = true
  const probe = async ({ address }: SocketAddress): Promise<ProbeResult> =>
    loops && address === '192.0.2.1' ? { kind: 'loops' } : { kind: 'answers', tookMs: 1 }
  await using created = createUpstreams({ probe })
  await created.order()
  await eventually(async () => (await created.order()).join() === '192.0.2.2')
  assert.deepEqual(created.upstreams.inUse, ['192.0.2.2:53'])
  const [warning, ...more] = created.warnings
  assert.deepEqual([warning?.address, more.length], ['192.0.2.1:53', 0])
  assert.match(warning?.remedy ?? '', /upstreamServers/)
  // What arrives late from it changes nothing.
  created.upstreams.answered(serverOf('192.0.2.1'), 1)
  created.upstreams.failed(serverOf('192.0.2.1'), true)
  assert.deepEqual(await created.order(), ['192.0.2.2'])
  loops = false
  await eventually(async () => (await created.order()).length === 2)
})

test('another list is adopted at once, and what is known of a resolver that stays is kept', async () => {
  await using created = createUpstreams({})
  const { order, upstreams, known } = created
  await order()
  upstreams.failed(serverOf('192.0.2.1'), true)
  known.servers = ['192.0.2.1', '192.0.2.3']
  assert.deepEqual(await order(), ['192.0.2.3', '192.0.2.1'])
  assert.equal(created.changes(), 1)
  known.servers = []
  assert.deepEqual(await order(), [])
  assert.deepEqual([created.changes(), upstreams.isAllDead], [2, true])
  assert.deepEqual(
    created.warnings.map(({ reason }) => reason),
    ['no name server is configured'],
  )
})

test('this very server is never its own upstream; when none is left that is said once', async () => {
  const isOwn = ({ address, port }: SocketAddress) => port === 53 && address === '169.254.96.16'
  await using created = createUpstreams({ servers: ['169.254.96.16', '169.254.96.16:5353', '192.0.2.1'], isOwn })
  assert.deepEqual(await created.order(), ['169.254.96.16', '192.0.2.1'])
  assert.deepEqual(created.upstreams.inUse, ['169.254.96.16:5353', '192.0.2.1:53'])
  await using alone = createUpstreams({ servers: ['169.254.96.16'], isOwn })
  assert.deepEqual([await alone.order(), await alone.order()], [[], []])
  assert.deepEqual(
    alone.warnings.map(({ reason }) => reason),
    ['every configured name server is this one'],
  )
})
