import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ByteStream, createMemoryStreamPair, startTcpListener, type TcpSocket } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { readBytes } from '../frames.ts'
import type { ProtocolHandler } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { DialBacks, dialBackMagic, serveDialBacks } from './dial-back.ts'

const never = new AbortController().signal

/** A node with a port, connected to a server that sees it at this multiaddress. */
async function startPair(from: Partial<PeerConnection> = {}) {
  let onSocket: ((socket: TcpSocket) => void) | undefined
  let magic = ''
  const listener = await startTcpListener({
    host: '127.0.0.1',
    port: 0,
    onConnection: (socket) =>
      void readBytes(socket, dialBackMagic.length, never).then((bytes) => {
        if (bytes?.toString() === magic) onSocket?.(socket)
      }),
  })
  let handler: ProtocolHandler | undefined
  const serving = await serveDialBacks(
    {
      handle: async (given) => {
        handler = given
      },
      unhandle: async () => {
        handler = undefined
      },
    },
    silentLogger,
  )
  const dialBacks = new DialBacks({
    handleRaw(given, take) {
      magic = given
      onSocket = take
      return { [Symbol.dispose]: () => {} }
    },
  })
  const asker = { peerId: 'node', address: '/ip4/127.0.0.1/tcp/50000', isOutbound: false, ...from } as PeerConnection
  const server = {
    async openStream(): Promise<ByteStream> {
      const [near, far] = createMemoryStreamPair()
      handler?.onStream(far, asker)
      return near
    },
  } as unknown as PeerConnection
  return {
    port: listener.port,
    ask: (port = listener.port, signal = never) => dialBacks.ask(server, port, signal),
    async [Symbol.asyncDispose]() {
      dialBacks[Symbol.dispose]()
      await serving[Symbol.asyncDispose]()
      await listener[Symbol.asyncDispose]()
      assert.equal(handler, undefined)
    },
  }
}

test('a server reaches the port, and says at which address', async () => {
  await using pair = await startPair()
  assert.deepEqual(await pair.ask(), { address: '127.0.0.1', port: pair.port })
})

test('a port that leads nowhere is an error that says why', async () => {
  await using pair = await startPair()
  const closed = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: () => {} })
  await closed[Symbol.asyncDispose]()
  await assert.rejects(pair.ask(closed.port), /ECONNREFUSED/)
})

test('a port that leads to somebody else is none of ours', async () => {
  await using pair = await startPair()
  const other = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: (socket) => socket.resume() })
  const patience = new AbortController()
  const asking = pair.ask(other.port, patience.signal)
  setTimeout(() => patience.abort(), 200)
  await assert.rejects(asking, /somebody else answers/)
  await other[Symbol.asyncDispose]()
})

test('only who has dialled the server itself is dialled back', async () => {
  await using relayed = await startPair({ relayPeerId: 'relay' })
  await assert.rejects(relayed.ask(), /has not dialled this server/)
  await using outbound = await startPair({ isOutbound: true })
  await assert.rejects(outbound.ask(), /has not dialled this server/)
})
