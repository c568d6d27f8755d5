import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Link } from './link.ts'
import { ReceivePath } from './receive-path.ts'

function createLink(): Link {
  return { flows: 0 } as Link
}

/** Feeds a path as a flow does, and keeps what comes out in order. */
function createReceiver() {
  const [first, second, third] = [createLink(), createLink(), createLink()]
  const path = new ReceivePath(first)
  let text = ''
  let hasEnded = false
  const take = (pieces: (Buffer | null)[]) => {
    for (const piece of pieces) {
      assert.ok(!hasEnded, 'nothing comes after the end')
      if (piece === null) hasEnded = true
      else text += piece.toString()
    }
  }
  return {
    path,
    first,
    second,
    third,
    data: (link: Link, bytes: string) => take(path.arrive(link, Buffer.from(bytes), text.length)),
    end: (link: Link) => take(path.arrive(link, null, text.length)),
    move: (link: Link, offset: number) => take(path.move(link, offset, text.length)),
    get text() {
      return text
    },
    get hasEnded() {
      return hasEnded
    },
  }
}

test('what comes early on the new link waits for the rest of the old one', () => {
  const receiver = createReceiver()
  receiver.data(receiver.first, 'ab')
  receiver.move(receiver.second, 5)
  receiver.data(receiver.second, 'fgh')
  receiver.end(receiver.second)
  assert.equal(receiver.text, 'ab')
  assert.equal(receiver.path.queuedBytes, 3)
  receiver.data(receiver.first, 'cd')
  receiver.data(receiver.first, 'e')
  assert.equal(receiver.text, 'abcdefgh')
  assert.ok(receiver.hasEnded)
  assert.equal(receiver.path.queuedBytes, 0)
})

test('a move where nothing is missing takes place at once', () => {
  const receiver = createReceiver()
  receiver.data(receiver.first, 'abc')
  receiver.move(receiver.second, 3)
  receiver.data(receiver.second, 'd')
  assert.equal(receiver.text, 'abcd')
  assert.ok(!receiver.path.uses(receiver.first))
})

test('moves may follow each other, also back to a link that was left', () => {
  const receiver = createReceiver()
  receiver.move(receiver.second, 2)
  receiver.move(receiver.third, 4)
  receiver.data(receiver.third, 'ef')
  receiver.move(receiver.first, 6)
  receiver.data(receiver.first, 'gh')
  receiver.data(receiver.second, 'cd')
  assert.equal(receiver.text, '')
  assert.equal(receiver.path.queuedBytes, 6)
})

test('the bytes of the first link are told from those after coming back by what was announced', () => {
  const receiver = createReceiver()
  receiver.data(receiver.first, 'ab')
  receiver.move(receiver.second, 2)
  receiver.data(receiver.second, 'cd')
  receiver.move(receiver.first, 4)
  receiver.data(receiver.first, 'ef')
  assert.equal(receiver.text, 'abcdef')
})

test('moves that overtake each other are taken in the order of their offsets', () => {
  const receiver = createReceiver()
  receiver.move(receiver.third, 4)
  receiver.data(receiver.third, 'ef')
  receiver.data(receiver.first, 'ab')
  receiver.move(receiver.second, 2)
  receiver.data(receiver.second, 'cd')
  receiver.data(receiver.third, 'gh')
  assert.equal(receiver.text, 'abcdefgh')
})

for (const [what, sent] of [
  ['before anything was sent', ''],
  ['after some bytes', 'cd'],
] as const) {
  test(`a sender that begins anew and moves ${what} is understood when the move comes first`, () => {
    const receiver = createReceiver()
    receiver.data(receiver.first, 'ab')
    receiver.path.restart(receiver.second)
    receiver.move(receiver.third, 2 + sent.length)
    receiver.data(receiver.third, 'ef')
    assert.ok(receiver.path.isWaiting)
    receiver.move(receiver.second, 2)
    if (sent !== '') receiver.data(receiver.second, sent)
    receiver.data(receiver.third, 'gh')
    assert.equal(receiver.text, `ab${sent}efgh`)
    assert.deepEqual([receiver.first.flows, receiver.second.flows, receiver.third.flows], [0, 0, 1])
  })
}

test('a sender that begins anew elsewhere than where our bytes end is refused', () => {
  const receiver = createReceiver()
  receiver.data(receiver.first, 'ab')
  receiver.path.restart(receiver.second)
  assert.throws(() => receiver.move(receiver.second, 3), { name: 'LinkProtocolError' })
})

test('links know how many flows come on them', () => {
  const { path, first, second, ...receiver } = createReceiver()
  assert.equal(first.flows, 1)
  receiver.move(second, 1)
  assert.deepEqual([first.flows, second.flows], [1, 1])
  receiver.data(first, 'a')
  assert.deepEqual([first.flows, second.flows], [0, 1])
  path.close()
  path.close()
  assert.deepEqual([first.flows, second.flows], [0, 0])
})

test('a peer that moves backwards, too often, beyond its word or without one is refused', () => {
  const violation = { name: 'LinkProtocolError' }
  const backwards = createReceiver()
  backwards.data(backwards.first, 'abc')
  assert.throws(() => backwards.move(backwards.second, 2), violation)
  const often = createReceiver()
  for (let count = 1; count <= 4; count++) often.move(often.second, count)
  assert.throws(() => often.move(often.third, 5), violation)
  const beyond = createReceiver()
  beyond.move(beyond.second, 2)
  assert.throws(() => beyond.data(beyond.first, 'abc'), violation)
  const unknown = createReceiver()
  assert.throws(() => unknown.data(unknown.second, 'a'), violation)
})
