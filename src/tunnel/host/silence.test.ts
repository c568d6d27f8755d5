import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import type { PeerConnection, ProtocolStream } from './peer-connection.ts'
import { watchSilence } from './silence.ts'

/** A clock, a connection, and what is done to it. */
function createScene(t: TestContext, { probeAfterMs }: { readonly probeAfterMs?: number } = { probeAfterMs: 5000 }) {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] })
  const scene = { nowMs: 100_000, lastHeardMs: 100_000, probes: 0, aborted: '', answers: false }
  const connection: PeerConnection = {
    id: '1',
    peerId: 'peer',
    address: '/ip4/192.0.2.1/tcp/1',
    relayPeerId: undefined,
    isOpen: true,
    get lastHeardMs() {
      return scene.lastHeardMs
    },
    whenClosed: () => Promise.resolve(),
    openStream(_protocols, signal): Promise<ProtocolStream> {
      scene.probes += 1
      if (scene.answers) {
        scene.lastHeardMs = scene.nowMs
        return Promise.resolve(Object.assign(createMemoryStreamPair()[0], { protocol: '' }))
      }
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    },
    abort(reason) {
      scene.aborted = reason.message
    },
  }
  const watch = watchSilence({
    policy: { limitMs: 12_000, ...(probeAfterMs === undefined ? {} : { probeAfterMs }) },
    connections: () => (scene.aborted === '' ? [connection] : []),
    nowMs: () => scene.nowMs,
  })
  t.after(() => watch[Symbol.dispose]())
  /** Lets seconds pass one by one. */
  const pass = async (seconds: number, each = () => {}) => {
    for (let second = 0; second < seconds; second++) {
      scene.nowMs += 1000
      each()
      t.mock.timers.tick(1000)
      await Promise.resolve()
    }
  }
  return { scene, pass, watch }
}

test('a peer that says nothing is asked once, and given up when the time is over', async (t) => {
  const { scene, pass } = createScene(t)
  await pass(4)
  assert.equal(scene.probes, 0)
  await pass(7)
  assert.deepEqual([scene.probes, scene.aborted], [1, ''])
  await pass(1)
  assert.deepEqual([scene.probes, scene.aborted], [1, 'nothing was heard for 12 s'])
})

test('a peer that answers is asked again and again, and kept', async (t) => {
  const { scene, pass } = createScene(t)
  scene.answers = true
  await pass(60)
  assert.equal(scene.aborted, '')
  assert.ok(scene.probes >= 10 && scene.probes <= 12, `${scene.probes} probes`)
})

test('a peer whose bytes come now and then is neither asked nor given up, though it answers no probe', async (t) => {
  const { scene, pass } = createScene(t)
  let second = 0
  await pass(60, () => {
    second += 1
    if (second % 4 === 0) scene.lastHeardMs = scene.nowMs
  })
  assert.deepEqual([scene.probes, scene.aborted], [0, ''])
})

test('after this process stood still the peer gets its time anew', async (t) => {
  const { scene, pass } = createScene(t)
  await pass(3)
  scene.nowMs += 3_600_000
  await pass(11)
  assert.equal(scene.aborted, '')
  await pass(2)
  assert.equal(scene.aborted, 'nothing was heard for 12 s')
})

test('who does not probe only waits', async (t) => {
  const { scene, pass } = createScene(t, {})
  await pass(13)
  assert.deepEqual([scene.probes, scene.aborted], [0, 'nothing was heard for 12 s'])
})

test('nothing happens after disposal', async (t) => {
  const { scene, pass, watch } = createScene(t)
  watch[Symbol.dispose]()
  await pass(30)
  assert.deepEqual([scene.probes, scene.aborted], [0, ''])
})
