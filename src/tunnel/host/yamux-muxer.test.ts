import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MultiaddrConnection } from '@libp2p/interface'
import { createYamux } from './yamux-muxer.ts'

interface Log {
  (): void
  trace(): void
  error(): void
  newScope(): Log
}

const log: Log = Object.assign(() => {}, { trace() {}, error() {}, newScope: () => log })

/** A connection that was lost, which the muxer has not been told yet. */
class LostConnection extends EventTarget {
  readonly direction = 'outbound'
  readonly log = log

  send(): never {
    throw new Error('Cannot write to a stream that is closed')
  }
}

/** One that takes everything and counts it. */
class OpenConnection extends EventTarget {
  readonly direction = 'outbound'
  readonly log = log
  sent = 0

  send(data: { readonly byteLength: number }): boolean {
    this.sent += data.byteLength
    return true
  }
}

const muxerOf = (connection: object) =>
  createYamux({ enableKeepAlive: false })().createStreamMuxer(connection as MultiaddrConnection)
const microtasks = () => new Promise((resolve) => setImmediate(resolve))

test('a stream on a connection that is lost just then fails alone, and not the process', async () => {
  const stream = await muxerOf(new LostConnection()).createStream()
  await microtasks()
  assert.equal(stream.status, 'aborted')
})

test('a stream on a connection that stands is announced', async () => {
  const connection = new OpenConnection()
  const stream = await muxerOf(connection).createStream()
  await microtasks()
  assert.deepEqual([stream.status, connection.sent], ['open', 12])
})
