import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair, type ExchangeOptions, type SocketAddress, timeoutError } from '../../net/index.ts'
import { readTerms, termsSeconds, writeReply } from './agreement.ts'
import { type Agreement, encodeAnswer, questionPort, readQuestion } from './question.ts'
import { createQuestioner, type QuestionerOptions } from './questioner.ts'

const { signal } = new AbortController()
const place = { nodeName: 'edge-b', address: '10.244.2.2' }

/** Nodes by name, each with the keys that were brought to it; `routes` says which of them an address leads to. */
function setUp(routes: Record<string, string>) {
  const keys = new Map<string, Map<string, Agreement>>()
  const agreements: string[] = []
  const sent: { readonly to: SocketAddress; readonly source: string | undefined }[] = []
  let nowMs = 0
  const options: QuestionerOptions = {
    async openFlow(nodeName) {
      if (nodeName === 'nobody') throw new Error('no path to nobody')
      const [ours, theirs] = createMemoryStreamPair()
      agreements.push(nodeName)
      void readTerms(theirs, signal).then(async (terms) => {
        keys.set(nodeName, new Map([...(keys.get(nodeName) ?? []), [terms.id.toString('hex'), terms]]))
        await writeReply(theirs)
      })
      return ours
    },
    nowMs: () => nowMs,
    async exchange(to: SocketAddress, message: Uint8Array, { source, accept, timeoutMs }: ExchangeOptions) {
      sent.push({ to, source })
      const node = routes[to.address]
      if (node === 'refusing') throw Object.assign(new Error('read ECONNREFUSED'), { code: 'ECONNREFUSED' })
      const question = readQuestion(Buffer.from(message), (id) => keys.get(node ?? '')?.get(id))
      const answer = question && encodeAnswer(question)
      if (answer === undefined || !accept(answer)) throw timeoutError(to, timeoutMs)
      return answer
    },
  }
  const advance = (ms: number) => {
    nowMs += ms
  }
  return { questioner: createQuestioner(options), keys, agreements, sent, advance }
}

test('an address that leads to the node is confirmed, from the source that is asked for', async () => {
  const { questioner, sent } = setUp({ '10.244.2.2': 'edge-b' })
  assert.equal(await questioner.ask(place, '10.244.1.1', signal), undefined)
  assert.deepEqual(sent, [{ to: { address: '10.244.2.2', port: questionPort }, source: '10.244.1.1' }])
})

test('an address that leads to another node, or nowhere, is not, and the reason names it', async () => {
  for (const other of ['edge-c', 'void']) {
    const { questioner, sent } = setUp({ '10.244.2.2': other })
    // The other node was asked before, and has a key for its own addresses.
    await questioner.ask({ nodeName: 'edge-c', address: '10.244.3.3' }, undefined, signal)
    sent.length = 0
    const reason = await questioner.ask(place, '10.244.1.1', signal)
    assert.match(reason ?? '', /^it does not answer at 10\.244\.2\.2 from 10\.244\.1\.1: no answer/)
    assert.equal(sent.length, 3, 'datagrams may be lost')
  }
})

test('a host that says that nobody is there is believed at once', async () => {
  const { questioner, sent } = setUp({ '10.244.2.2': 'refusing' })
  assert.match((await questioner.ask(place, undefined, signal)) ?? '', /ECONNREFUSED/)
  assert.equal(sent.length, 1)
})

test('one key does for all addresses of a node until half of its time is over', async () => {
  const { questioner, agreements, advance } = setUp({ '10.244.2.2': 'edge-b', '10.244.2.3': 'edge-b' })
  const another = { ...place, address: '10.244.2.3' }
  await Promise.all([place, another].map((each) => questioner.ask(each, undefined, signal)))
  advance(termsSeconds * 500 - 1_000)
  await questioner.ask(place, undefined, signal)
  assert.deepEqual(agreements, ['edge-b'])
  advance(2_000)
  assert.equal(await questioner.ask(place, undefined, signal), undefined)
  assert.deepEqual(agreements, ['edge-b', 'edge-b'])
})

test('a node that was started again is brought a new key with the next question', async () => {
  const { questioner, keys } = setUp({ '10.244.2.2': 'edge-b' })
  assert.equal(await questioner.ask(place, undefined, signal), undefined)
  keys.clear()
  assert.notEqual(await questioner.ask(place, undefined, signal), undefined)
  assert.equal(await questioner.ask(place, undefined, signal), undefined)
})

test('a node that cannot be talked to is not asked', async () => {
  const { questioner, sent } = setUp({})
  const reason = await questioner.ask({ nodeName: 'nobody', address: '10.244.2.2' }, undefined, signal)
  assert.equal(reason, 'cannot ask it: no path to nobody')
  assert.equal(sent.length, 0)
})
