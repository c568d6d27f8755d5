import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair, exchangeDatagram } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { proposeTerms, termsSeconds } from './agreement.ts'
import { type ReachAnswerer, startReachAnswerer } from './answerer.ts'
import { type Agreement, encodeQuestion, isAnswerTo, newAgreement, newNonce } from './question.ts'

const { signal } = new AbortController()

async function setUp() {
  let nowMs = 0
  const changes: boolean[] = []
  const answerer: ReachAnswerer = await startReachAnswerer({
    address: '127.0.0.1',
    isHere: (address) => address === '10.244.2.2',
    onChange: () => changes.push(answerer.isAsked),
    logger: silentLogger,
    nowMs: () => nowMs,
  })
  const agree = async () => {
    const [ours, theirs] = createMemoryStreamPair()
    answerer.agree(theirs)
    return await proposeTerms(ours, signal)
  }
  /** Whether a question is answered; the next question of a known key shows that it was not merely late. */
  const isAnswered = async (agreement: Agreement, address = '10.244.2.2', timeoutMs = 10_000): Promise<boolean> => {
    const question = { agreement, nonce: newNonce(), address }
    const accept = (message: Buffer) => isAnswerTo(question, message)
    try {
      await exchangeDatagram(answerer.at, encodeQuestion(question), { timeoutMs, signal, accept })
      return true
    } catch {
      return false
    }
  }
  const advance = (ms: number) => {
    nowMs += ms
  }
  return { answerer, changes, agree, isAnswered, advance }
}

test('whoever has brought a key gets answers at addresses of endpoints here', async () => {
  const { answerer, changes, agree, isAnswered } = await setUp()
  await using _ = answerer
  assert.equal(answerer.isAsked, false)
  assert.equal(await isAnswered(await agree()), true)
  assert.deepEqual([answerer.isAsked, changes], [true, [true]])
})

test('nobody else does, and nobody at other addresses', async () => {
  const { answerer, agree, isAnswered } = await setUp()
  await using _ = answerer
  const agreement = await agree()
  assert.equal(await isAnswered(newAgreement(), '10.244.2.2', 100), false)
  assert.equal(await isAnswered(agreement, '10.244.2.3', 100), false)
  assert.equal(await isAnswered(agreement), true)
})

test('a key holds as long as was agreed', async () => {
  const { answerer, agree, isAnswered, advance } = await setUp()
  await using _ = answerer
  const agreement = await agree()
  advance(termsSeconds * 1_000)
  assert.equal(await isAnswered(agreement), true)
  advance(1)
  assert.equal(await isAnswered(agreement, '10.244.2.2', 100), false)
})

test('of too many keys the one that was not used for longest gives way', async () => {
  const { answerer, agree, isAnswered } = await setUp()
  await using _ = answerer
  const [used, unused] = [await agree(), await agree()]
  for (let count = 2; count < 1_024; count++) await agree()
  assert.equal(await isAnswered(used), true)
  await agree()
  assert.equal(await isAnswered(used), true)
  assert.equal(await isAnswered(unused, '10.244.2.2', 100), false)
})

test('a flow that brings no key is reset', async () => {
  const { answerer } = await setUp()
  await using _ = answerer
  const [ours, theirs] = createMemoryStreamPair()
  const closed = new Promise<Error | undefined>((resolve) => ours.once('error', resolve).once('close', resolve))
  answerer.agree(theirs)
  ours.end('hello')
  await closed
  assert.equal(answerer.isAsked, false)
})
