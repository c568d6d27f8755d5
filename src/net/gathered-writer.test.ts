import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { bulkBuffers } from './buffer-pool.ts'
import { GatheredWriter } from './gathered-writer.ts'

/** Keeps what is written until the test lets the kernel take it. */
class FakeSocket extends Socket {
  readonly writes: Buffer[] = []
  readonly #done: (() => void)[] = []
  #pending = 0

  constructor() {
    super()
    Object.defineProperty(this, 'writableLength', { get: () => this.#pending })
  }

  override write(bytes: Buffer, done?: unknown): boolean {
    this.writes.push(bytes)
    this.#pending += bytes.length
    this.#done.push(() => {
      this.#pending -= bytes.length
      if (typeof done === 'function') done()
    })
    return true
  }

  takeAll(): void {
    for (const done of this.#done.splice(0)) done()
  }
}

function createWriter() {
  const socket = new FakeSocket()
  let passed = 0
  const writer = new GatheredWriter(socket, () => {
    passed += 1
  })
  return { socket, writer, passed: () => passed, text: () => Buffer.concat(socket.writes).toString('latin1') }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('a message is written at once, and keeps its bytes when they are used again', () => {
  const { socket, writer, text } = createWriter()
  const lent = Buffer.from('hello')
  writer.onBytes(lent)
  lent.fill('x')
  assert.equal(text(), 'hello')
  assert.equal(writer.heldBytes, 5)
  socket.takeAll()
  assert.equal(writer.heldBytes, 0)
})

test('large pieces of one turn become one write, and a small one behind them does not overtake', async () => {
  const { socket, writer, text } = createWriter()
  const lent = Buffer.alloc(16_000)
  for (const letter of 'abc') writer.onBytes(lent.fill(letter))
  writer.onBytes(Buffer.from('end'))
  assert.deepEqual([socket.writes.length, writer.heldBytes], [0, 48_003])
  await turn()
  assert.equal(socket.writes.length, 1)
  assert.equal(text(), `${'a'.repeat(16_000)}${'b'.repeat(16_000)}${'c'.repeat(16_000)}end`)
})

test('what fills a buffer is written without waiting, the rest when it is flushed', () => {
  const { socket, writer, text } = createWriter()
  const bytes = Buffer.alloc(150_000, 'abcdefg')
  writer.onBytes(bytes)
  assert.equal(socket.writes.length, 2)
  writer.flush()
  writer.flush()
  assert.equal(socket.writes.length, 3)
  assert.equal(text(), bytes.toString('latin1'))
})

test('pieces for a reader that is slow fill a buffer before it waits in line', async () => {
  const { socket, writer, text } = createWriter()
  writer.onBytes(Buffer.alloc(5_000, '0'))
  await turn()
  for (const digit of '123') {
    writer.onBytes(Buffer.alloc(5_000, digit))
    await turn()
  }
  assert.deepEqual([socket.writes.length, writer.heldBytes], [1, 20_000])
  socket.takeAll()
  assert.equal(socket.writes.length, 2)
  assert.equal(text(), ['0', '1', '2', '3'].map((digit) => digit.repeat(5_000)).join(''))
})

test('a buffer is used again when the kernel has taken it, and not before', () => {
  const { socket, writer, passed } = createWriter()
  writer.onBytes(Buffer.alloc(bulkBuffers.bufferBytes))
  const [written] = socket.writes
  const other = bulkBuffers.take()
  assert.notEqual(other.buffer, written?.buffer)
  socket.takeAll()
  assert.equal(passed(), 1)
  assert.equal(bulkBuffers.take().buffer, written?.buffer)
})
