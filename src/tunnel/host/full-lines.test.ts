import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { TcpEnds, TcpProgress } from '../../linux/index.ts'
import { FullLines } from './full-lines.ts'

const ends: TcpEnds = {
  local: { address: '192.168.1.11', port: 40_000 },
  remote: { address: '203.0.113.9', port: 20_004 },
}
const relay = { peerId: 'relay', relayPeerId: undefined, tcpEnds: ends }
const through = { peerId: 'peer', relayPeerId: 'relay', tcpEnds: undefined }

/** Looks that see these, one after the other. */
function setUp(seen: readonly (TcpProgress | undefined)[]) {
  const left = [...seen]
  const asked: TcpEnds[] = []
  let nowMs = 1000
  let disposed = 0
  const lines = new FullLines(
    async () => ({
      progressOf: async (wanted) => {
        asked.push(wanted)
        return left.shift()
      },
      [Symbol.dispose]: () => void disposed++,
    }),
    () => nowMs,
  )
  return {
    lines,
    asked,
    disposed: () => disposed,
    async look() {
      nowMs += 500
      lines.look(relay)
      for (let turn = 0; turn < 5; turn++) await setImmediate()
      return lines.takenMs(relay)
    },
    pass(ms: number) {
      nowMs += ms
    },
  }
}

const much = (acknowledgedBytes: number): TcpProgress => ({ acknowledgedBytes, waitingBytes: 300_000 })

test('a line is full while much waits and some of it is taken; that excuses also what runs through the relay', async () => {
  const { lines, look } = setUp([much(1000), much(1000), much(9000), much(9000), much(17_000)])
  assert.deepEqual([await look(), await look()], [0, 0])
  assert.equal(await look(), 2500)
  assert.equal(lines.takenMs(through), 2500)
  assert.equal(await look(), 2500, 'a pause is no end')
  assert.equal(await look(), 3500)
})

test('a machine that takes what little was sent may still have a relay that says nothing', async () => {
  const little = (acknowledgedBytes: number) => ({ acknowledgedBytes, waitingBytes: 900 })
  const { look } = setUp([little(1000), little(2000), little(3000)])
  assert.deepEqual([await look(), await look(), await look()], [0, 0, 0])
})

test('what was taken long ago is forgotten', async () => {
  const { look, pass } = setUp([much(1000), much(2000), much(2000)])
  await look()
  assert.equal(await look(), 2000)
  pass(60_001)
  assert.equal(await look(), 0)
})

test('one look at a time, none at what has no socket of its own, and none where nothing tells', async () => {
  const { lines, asked } = setUp([much(1)])
  lines.look(relay)
  lines.look(relay)
  lines.look(through)
  for (let turn = 0; turn < 5; turn++) await setImmediate()
  assert.deepEqual(asked, [ends])
  const blind = new FullLines(undefined, () => 0)
  blind.look(relay)
  assert.equal(blind.takenMs(relay), 0)
  const refused = new FullLines(
    () => Promise.reject(new Error('not permitted')),
    () => 0,
  )
  refused.look(relay)
  await setImmediate()
  assert.equal(refused.takenMs(relay), 0)
  refused[Symbol.dispose]()
})

test('what tells is closed in the end', async () => {
  const { lines, look, disposed, asked } = setUp([much(1), much(2)])
  await look()
  lines[Symbol.dispose]()
  await setImmediate()
  assert.equal(disposed(), 1)
  await look()
  assert.equal(asked.length, 1, 'a look that comes late asks nothing')
})

test('a kernel that cannot be asked ends nothing, and is asked again', async () => {
  let failures = 2
  const open = async () => {
    if (failures-- > 0) throw new Error('too many open files')
    const answers = [much(1000), much(9000)]
    return { progressOf: async () => answers.shift(), [Symbol.dispose]() {} }
  }
  const lines = new FullLines(open, () => 1000)
  for (const connection of [through, relay, relay, relay, relay]) {
    lines.look(connection)
    for (let turn = 0; turn < 5; turn++) await setImmediate()
  }
  assert.equal(lines.takenMs(relay), 1000)
})

test('what was taken of lines that are gone is forgotten', async () => {
  const { lines, look, pass } = setUp([much(1000), much(9000), undefined, much(9000)])
  await look()
  assert.equal(await look(), 2000)
  pass(120_000)
  lines.look({ ...relay, peerId: 'another', tcpEnds: { ...ends } })
  for (let turn = 0; turn < 5; turn++) await setImmediate()
  assert.equal(lines.takenMs(relay), 0)
})
