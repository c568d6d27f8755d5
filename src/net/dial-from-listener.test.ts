import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { suite, test } from 'node:test'
import { MetInTheMiddleError } from './dial-from-listener.ts'
import { DialError } from './dialer.ts'
import { startTcpListener, type TcpListener } from './tcp-listener.ts'

const never = new AbortController().signal

interface Accepting extends AsyncDisposable {
  readonly listener: TcpListener
  /** The far ports of the accepted connections. */
  readonly accepted: (number | undefined)[]
}

async function accepting(): Promise<Accepting> {
  const accepted: (number | undefined)[] = []
  const onConnection = (socket: Socket) => {
    accepted.push(socket.remotePort)
    socket.end('accepted')
  }
  const listener = await startTcpListener({ host: '0.0.0.0', port: 0, reusePort: true, onConnection })
  return { listener, accepted, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() }
}

const at = (port: number) => ({ address: '127.0.0.1', port })

suite('dialling from the port of a listener', () => {
  test('the far end sees the listening port, and the listener goes on accepting', async () => {
    await using here = await accepting()
    await using there = await accepting()
    const socket = await here.listener.dialFrom(at(there.listener.port), never)
    assert.equal(socket.localPort, here.listener.port)
    socket.end()
    assert.equal(await text(socket), 'accepted')
    assert.deepEqual(there.accepted, [here.listener.port])
    await using elsewhere = await accepting()
    const back = await elsewhere.listener.dialFrom(at(here.listener.port), never)
    back.end()
    assert.equal(await text(back), 'accepted')
  })

  test('two that dial each other at once have one connection, whoever was first', async () => {
    for (let round = 0; round < 20; round++) {
      await using here = await accepting()
      await using there = await accepting()
      const outcomes = await Promise.allSettled([
        here.listener.dialFrom(at(there.listener.port), never),
        there.listener.dialFrom(at(here.listener.port), never),
      ])
      const dialled = outcomes.filter((outcome) => outcome.status === 'fulfilled').map(({ value }) => value)
      const failures = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason)
      assert.ok(dialled.length > 0)
      for (const failure of failures) assert.ok(failure instanceof MetInTheMiddleError, String(failure))
      for (const socket of dialled) socket.destroy()
    }
  })

  test('somebody who does not listen refuses', async () => {
    await using here = await accepting()
    const gone = await accepting()
    const { port } = gone.listener
    await gone[Symbol.asyncDispose]()
    await assert.rejects(here.listener.dialFrom(at(port), never), (error) => {
      assert.ok(error instanceof DialError)
      assert.equal(error.failure, 'refused')
      return true
    })
  })

  test('an abort ends it with its reason', async () => {
    await using here = await accepting()
    // TEST-NET-1: nobody answers there, if there is a route at all.
    const dialling = here.listener.dialFrom({ address: '192.0.2.1', port: 9 }, AbortSignal.abort(new Error('enough')))
    await assert.rejects(dialling, /enough/)
  })

  test('a port that is not shared is an error that says so', async () => {
    await using alone = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: () => {} })
    await assert.rejects(alone.dialFrom(at(9), never), /port that is not shared/)
  })
})
