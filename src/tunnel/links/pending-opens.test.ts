import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OpenRequest } from '../flows/open-message.ts'
import { frameType } from './frame.ts'
import type { Link } from './link.ts'
import type { LinkFlow } from './link-flow.ts'
import { PendingOpens } from './pending-opens.ts'

const request: OpenRequest = { protocol: 'tcp', nodeName: 'edge-b', address: '10.1.1.1', port: 80 }
const never = new AbortController().signal
const flow = {} as LinkFlow

/** A link that remembers what it was told to send. */
function createLink() {
  const sent: (readonly [number, number])[] = []
  const link = { flows: 0, control: (type: number, id: number) => void sent.push([type, id]) }
  return { sent, counted: link, link: link as unknown as Link }
}

test('a flow that was asked for counts on its link until it is answered', async () => {
  const opens = new PendingOpens()
  const { link, counted } = createLink()
  const answer = opens.wait(1, link, request, never)
  assert.deepEqual([counted.flows, opens.count, opens.has(1), opens.protocolOf(1)], [1, 1, true, 'tcp'])
  assert.equal(opens.isWaitingOn(link), true)
  opens.resolve(1, flow)
  assert.equal(await answer, flow)
  assert.deepEqual([counted.flows, opens.count, opens.isWaitingOn(link)], [0, 0, false])
})

test('answers to flows that nobody has asked for are nothing', () => {
  const opens = new PendingOpens()
  opens.resolve(7, flow)
  opens.reject(7, new Error('late'))
  assert.equal(opens.protocolOf(7), undefined)
})

test('the signal ends the wait with its reason, and the far end is told once', async () => {
  const opens = new PendingOpens()
  const { link, sent, counted } = createLink()
  const gone = new AbortController()
  const answer = opens.wait(3, link, request, gone.signal)
  gone.abort(new Error('the client went away'))
  await assert.rejects(answer, /the client went away/)
  opens.reject(3, new Error('late'))
  assert.deepEqual([sent, counted.flows, opens.count], [[[frameType.reset, 3]], 0, 0])
})

test('a signal that aborts after the answer sends nothing', async () => {
  const opens = new PendingOpens()
  const { link, sent } = createLink()
  const gone = new AbortController()
  const answer = opens.wait(3, link, request, gone.signal)
  opens.resolve(3, flow)
  await answer
  gone.abort(new Error('the client went away'))
  assert.deepEqual(sent, [])
})

test('with a link those are lost that wait on it, and no others', async () => {
  const opens = new PendingOpens()
  const [lost, other] = [createLink(), createLink()]
  const answers = [opens.wait(1, lost.link, request, never), opens.wait(3, other.link, request, never)]
  opens.lose(lost.link, new Error('the link was lost'))
  await assert.rejects(answers[0] ?? Promise.resolve(), /the link was lost/)
  assert.deepEqual([opens.has(1), opens.has(3)], [false, true])
})

test('what is not answered in time fails with the place, and the far end is told', async (context) => {
  let nowMs = 1_000
  context.mock.method(performance, 'now', () => nowMs)
  const opens = new PendingOpens()
  const { link, sent } = createLink()
  const early = opens.wait(1, link, request, never)
  nowMs = 5_000
  void opens.wait(3, link, request, never)
  opens.tick(10_999)
  assert.equal(opens.count, 2)
  opens.tick(11_000)
  await assert.rejects(early, {
    name: 'DialError',
    failure: 'unreachable',
    message: 'Cannot connect to 10.1.1.1:80 on edge-b: no answer in time',
  })
  assert.deepEqual([sent, opens.has(3)], [[[frameType.reset, 1]], true])
})
