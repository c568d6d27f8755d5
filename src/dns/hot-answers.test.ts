import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode, type Packet } from 'dns-packet'
import { type AnswerOrder, HotAnswers } from './hot-answers.ts'
import { parseQuery, type Query } from './query.ts'

function messageOf(id: number, changes: Packet = {}, name = 'web.shop.svc.cluster.local'): Buffer {
  return encode({ type: 'query', id, flags: 0x100, questions: [{ type: 'A', name }], ...changes })
}

function queryOf(message: Buffer): Query {
  const query = parseQuery(message)
  assert.ok('name' in query)
  return query
}

const optOf = (options: { code: number; data: Buffer }[]): Packet => ({
  additionals: [
    {
      type: 'OPT',
      name: '.',
      udpPayloadSize: 1232,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: 0,
      flag_do: false,
      options: options as never,
    },
  ],
})

const answerOf = (id: number, text: string) => Buffer.concat([Buffer.from([id >> 8, id & 255]), Buffer.from(text)])

function add(hot: HotAnswers, message: Buffer, text: string, order?: AnswerOrder): void {
  hot.add(message, queryOf(message), answerOf(message.readUInt16BE(0), text), order)
}

test('an answer is found again under any id, and nothing else is', () => {
  const hot = new HotAnswers()
  add(hot, messageOf(1), 'answer')
  assert.deepEqual(hot.get(messageOf(0xabcd)), answerOf(0xabcd, 'answer'))
  for (const other of [
    messageOf(1, { flags: 0 }),
    messageOf(1, {}, 'WEB.shop.svc.cluster.local'),
    messageOf(1, optOf([])),
    messageOf(1, {}, 'web'),
    Buffer.alloc(12),
    Buffer.alloc(0),
  ]) {
    assert.equal(hot.get(other), undefined)
  }
})

test('an answer that was given out is not touched by the next one', () => {
  const hot = new HotAnswers()
  add(hot, messageOf(1), 'answer')
  const first = hot.get(messageOf(1))
  hot.get(messageOf(2))
  assert.equal(first?.readUInt16BE(0), 1)
})

test('questions with EDNS are kept, those with a cookie are not', () => {
  const hot = new HotAnswers()
  const plain = messageOf(1, optOf([]))
  const cookie = messageOf(1, optOf([{ code: 10, data: Buffer.alloc(8) }]))
  add(hot, plain, 'plain')
  add(hot, cookie, 'cookie')
  assert.deepEqual(hot.get(plain), answerOf(1, 'plain'))
  assert.equal(hot.get(cookie), undefined)
})

test('answers whose order carries no meaning are made a few times and then take turns', () => {
  const hot = new HotAnswers()
  const message = messageOf(7)
  const turns = ['ab', 'ba'].map((text) => {
    assert.equal(hot.get(message), undefined)
    const turn = hot.turnOf(message, () => 0.5)
    add(hot, message, text, { count: 2, turn })
    return turn
  })
  assert.deepEqual(turns, [0x8000, 0x8001])
  const seen = Array.from({ length: 4 }, () => hot.get(message)?.toString('latin1', 2))
  assert.deepEqual(seen, ['ba', 'ab', 'ba', 'ab'])
})

test('answers live for a second, and are gone at once when what they were made from changes', () => {
  let now = 0
  const hot = new HotAnswers(() => now)
  hot.get(messageOf(1))
  add(hot, messageOf(1), 'answer')
  now = 999
  assert.notEqual(hot.get(messageOf(1)), undefined)
  now = 1000
  assert.equal(hot.get(messageOf(1)), undefined)
  add(hot, messageOf(1), 'answer')
  hot.clear()
  assert.equal(hot.get(messageOf(1)), undefined)
})

test('a flood of names keeps a bounded number of answers', () => {
  const hot = new HotAnswers(() => 0)
  hot.clear()
  for (let count = 0; count < 5000; count++) add(hot, messageOf(1, {}, `${count}.example.org`), 'answer')
  assert.notEqual(hot.get(messageOf(1, {}, '4095.example.org')), undefined)
  assert.equal(hot.get(messageOf(1, {}, '4096.example.org')), undefined)
})
