import assert from 'node:assert/strict'
import { test } from 'node:test'
import { frameType } from './frame.ts'
import type { Link } from './link.ts'
import { LinkDatagrams } from './link-datagrams.ts'

function createLink() {
  const sent: number[] = []
  const control: number[] = []
  const link = {
    flows: 0,
    datagram: (_: number, message: Uint8Array) => void sent.push(message.length),
    control: (type: number) => void control.push(type),
  }
  return { link: link as unknown as Link, sent, control }
}

function createFlow() {
  const first = createLink()
  const state = { own: undefined as Link | undefined, done: 0 }
  const flow = new LinkDatagrams(1, first.link, {
    datagramLink: () => state.own,
    onDone: () => {
      state.done += 1
    },
  })
  return { flow, first, state }
}

test('the largest datagram that UDP knows is sent whole, and what is larger is dropped alone', () => {
  const { flow, first } = createFlow()
  for (const length of [0, 1400, 65_507, 65_508, 9000]) flow.send(Buffer.alloc(length))
  assert.deepEqual(first.sent, [0, 1400, 65_507, 9000])
})

test('datagrams take their own link as soon as it stands, and come back when it is gone', () => {
  const { flow, first, state } = createFlow()
  const own = createLink()
  flow.send(Buffer.alloc(1))
  state.own = own.link
  flow.send(Buffer.alloc(2))
  state.own = undefined
  flow.send(Buffer.alloc(3))
  assert.deepEqual([first.sent, own.sent], [[1, 3], [2]])
})

test('after a lost link it asks on the next one, and follows the far end there', () => {
  const { flow, first } = createFlow()
  const [second, third] = [createLink(), createLink()]
  flow.resumeOn(second.link)
  assert.deepEqual(second.control, [frameType.resume])
  flow.onResume(third.link)
  assert.deepEqual(third.control, [])
  flow.send(Buffer.alloc(5))
  assert.deepEqual([first.sent, second.sent, third.sent], [[], [], [5]])
  assert.deepEqual([first.link.flows, second.link.flows, third.link.flows], [0, 0, 1])
})

test('it ends once, with the reason, and sends nothing more', async () => {
  const { flow, first, state } = createFlow()
  flow.onLost(new Error('lost'))
  flow.onOver(undefined)
  flow[Symbol.dispose]()
  flow.send(Buffer.alloc(5))
  assert.equal((await flow.closed)?.message, 'lost')
  assert.deepEqual([state.done, first.link.flows, first.sent, first.control], [1, 0, [], []])
})
