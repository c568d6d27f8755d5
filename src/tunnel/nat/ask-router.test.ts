import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DatagramSocket, openDatagramSocket } from '../../net/index.ts'
import { createPortControlRouter } from './ask-router.ts'

const never = new AbortController().signal
const request = { internalPort: 20006, externalPort: 20006, lifetimeSeconds: 3600 }

interface FakeRouter extends AsyncDisposable {
  readonly port: number
  readonly heard: Buffer[]
}

/** A router on this machine that answers what the function makes of a request. */
async function startRouter(answer: (message: Buffer, count: number) => Buffer | undefined): Promise<FakeRouter> {
  const heard: Buffer[] = []
  const socket: DatagramSocket = await openDatagramSocket({
    address: '127.0.0.1',
    port: 0,
    onMessage(message, from) {
      heard.push(message)
      const reply = answer(message, heard.length)
      if (reply !== undefined) socket.send(reply, from)
    },
    onError: (error) => assert.fail(error),
  })
  return { port: socket.port, heard, [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose]() }
}

const routerAt = ({ port }: FakeRouter) => createPortControlRouter('127.0.0.1', { ownAddress: '127.0.0.1', port })

function pcpAnswerTo(message: Buffer): Buffer {
  const answer = Buffer.from(message)
  answer[1] = 129
  answer.writeUInt16BE(41_000, 42)
  return answer
}

const natPmpAnswer = Buffer.from('0082000000001234' + '4e26' + 'a028' + '00000e10', 'hex')

test('PCP is tried first, with the same nonce each time', async () => {
  await using fake = await startRouter(pcpAnswerTo)
  const router = routerAt(fake)
  assert.deepEqual(await router.ask(request, never), { externalPort: 41_000, lifetimeSeconds: 3600 })
  await router.ask(request, never)
  assert.equal(router.protocol, 'PCP')
  assert.deepEqual(fake.heard[1], fake.heard[0])
})

test('a router that knows NAT-PMP alone is asked by that, and no more by PCP', async () => {
  await using fake = await startRouter((message) =>
    message[0] === 2 ? Buffer.from('0081000100001234', 'hex') : natPmpAnswer,
  )
  const router = routerAt(fake)
  assert.deepEqual(await router.ask(request, never), { externalPort: 41_000, lifetimeSeconds: 3600 })
  assert.equal(router.protocol, 'NAT-PMP')
  await router.ask(request, never)
  assert.deepEqual(
    fake.heard.map((message) => message[0]),
    [2, 0, 0],
  )
})

test('what got lost is sent again', async () => {
  await using fake = await startRouter((message, count) => (count === 1 ? undefined : pcpAnswerTo(message)))
  assert.equal((await routerAt(fake).ask(request, never)).externalPort, 41_000)
  assert.equal(fake.heard.length, 2)
})

test('a refusal is final, and noise is no answer', async () => {
  await using refusing = await startRouter((message) => {
    const answer = pcpAnswerTo(message)
    answer[3] = 2
    return answer
  })
  await assert.rejects(routerAt(refusing).ask(request, never), /not authorised/)
  assert.equal(refusing.heard.length, 1)
  await using noisy = await startRouter(() => Buffer.from('hello'))
  const options = { ownAddress: '127.0.0.1', port: noisy.port, patienceMs: [50, 50, 50] }
  const router = createPortControlRouter('127.0.0.1', options)
  await assert.rejects(router.ask(request, never), { code: 'ETIMEDOUT' })
  assert.equal(noisy.heard.length, 3)
})

test('waiting ends with the signal', async () => {
  await using silent = await startRouter(() => undefined)
  const stop = new AbortController()
  const asking = routerAt(silent).ask(request, stop.signal)
  stop.abort(new Error('the node stops'))
  await assert.rejects(asking, /the node stops/)
})
