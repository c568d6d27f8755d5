import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair, DialError } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import type { Carrier } from './carrier.ts'
import { createFlowDialer } from './flow-dialer.ts'
import { FlowCounter } from './flow-limits.ts'

const never = new AbortController().signal
const target = { protocol: 'tcp', nodeName: 'edge-b', address: '10.1.1.1', port: 80 } as const

function carrierOf(path: string, open: Carrier['open']): Carrier {
  return { peerId: 'peer', path, open, openDatagrams: () => Promise.reject(new Error('not here')) }
}

/** A dialer that has `standing` at once, and finds `later` one after the other. */
function createDialer(standing: Carrier | undefined, later: readonly Carrier[] = [], timeoutMs = 10_000) {
  const found = [...later]
  const broken: string[] = []
  const open = new FlowCounter({ total: 2, perPeer: 2 })
  const metrics = createMetrics()
  const dialer = createFlowDialer({
    carriers: {
      standingTo: () => standing,
      carrierTo: (_name, signal) =>
        new Promise((resolve, reject) => {
          const next = found.shift()
          if (next !== undefined) resolve(next)
          else signal.addEventListener('abort', () => reject(signal.reason))
        }),
      reportBroken: ({ path }) => void broken.push(path),
    },
    open,
    timeoutMs,
    logger: silentLogger,
    metrics,
  })
  return { dialer, broken, open, metrics }
}

test('a flow takes the carrier that stands, and counts until its stream is closed', async () => {
  const [stream, farEnd] = createMemoryStreamPair()
  farEnd.on('error', () => {})
  const { dialer, open, metrics } = createDialer(carrierOf('direct', async () => stream))
  assert.equal(await dialer.dial(target, never), stream)
  assert.equal(open.total, 1)
  stream.destroy()
  await new Promise((resolve) => stream.once('close', resolve))
  assert.equal(open.total, 0)
  assert.match(await metrics.render(), /edgemesh_tunnel_flows_total\{result="ok"\} 1/)
})

test('when the carrier that stands does not work it is reported, and the next ones are tried', async () => {
  const [stream] = createMemoryStreamPair()
  const lost = (path: string) => carrierOf(path, () => Promise.reject(new Error('lost')))
  const { dialer, broken, open } = createDialer(lost('one'), [lost('two'), carrierOf('three', async () => stream)])
  assert.equal(await dialer.dial(target, never), stream)
  assert.deepEqual([broken, open.total], [['one', 'two'], 1])
})

test('the answer of the far end is not asked for again', async () => {
  const refused = carrierOf('direct', () => Promise.reject(new DialError('refused', 'nobody listens')))
  const { dialer, broken, open, metrics } = createDialer(refused)
  await assert.rejects(dialer.dial(target, never), { failure: 'refused', message: 'nobody listens' })
  assert.deepEqual([broken, open.total], [[], 0])
  assert.match(await metrics.render(), /edgemesh_tunnel_flows_total\{result="refused"\} 1/)
})

test('a flow for which no carrier is found fails in time, and says where to', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { dialer } = createDialer(undefined, [], 10_000)
  const failed = assert.rejects(dialer.dial(target, never), {
    failure: 'unreachable',
    message: 'Cannot connect to 10.1.1.1:80 on edge-b: no answer in time',
  })
  context.mock.timers.tick(10_000)
  await failed
})

test('without a carrier that works the flow fails after three', async () => {
  const lost = carrierOf('one', () => Promise.reject(new Error('lost')))
  const { dialer, broken } = createDialer(undefined, [lost, lost, lost, lost])
  await assert.rejects(dialer.dial(target, never), { failure: 'no-path', message: /no path to edge-b works/ })
  assert.equal(broken.length, 3)
})

test('the signal ends a dial with its reason, which is nobody’s failure', async () => {
  const gone = new AbortController()
  const silent = carrierOf('direct', (_request, signal) => {
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  })
  const { dialer, broken, open } = createDialer(silent)
  const dialling = dialer.dial(target, gone.signal)
  gone.abort(new Error('the client went away'))
  await assert.rejects(dialling, /the client went away/)
  assert.deepEqual([broken, open.total], [[], 0])
})

test('more flows than may be open are refused here', async () => {
  const { dialer } = createDialer(carrierOf('direct', async () => createMemoryStreamPair()[0]))
  await dialer.dial(target, never)
  await dialer.dial(target, never)
  await assert.rejects(dialer.dial(target, never), { failure: 'overloaded', message: /too many open flows/ })
})

test('a target on no node has no path', async () => {
  const { dialer } = createDialer(undefined)
  await assert.rejects(dialer.dial({ ...target, nodeName: undefined }, never), { failure: 'no-path' })
})
