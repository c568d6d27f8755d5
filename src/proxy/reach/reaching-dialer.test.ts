import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backendIdOf } from '../../model/index.ts'
import { createMemoryStreamPair, DialError, type Dialer, type DialFailure, type DialTarget } from '../../net/index.ts'
import { createReachingDialer } from './reaching-dialer.ts'

const { signal } = new AbortController()
const target: DialTarget = { protocol: 'tcp', nodeName: 'edge-b', address: '10.244.2.2', port: 80 }

function setUp(failure?: DialFailure) {
  const events: string[] = []
  const dialer = (name: string, fails?: DialFailure): Dialer => ({
    async dial({ nodeName, address, port }) {
      events.push(`${name} ${nodeName ?? '-'}/${address}:${port}`)
      if (fails !== undefined) throw new DialError(fails, fails)
      return createMemoryStreamPair()[0]
    },
  })
  const reached = { has: (endpoint: { readonly port: number }) => endpoint.port === 80 }
  const direct = dialer('direct', failure)
  const suspect = (endpoint: Parameters<typeof backendIdOf>[0]) => void events.push(`suspect ${backendIdOf(endpoint)}`)
  const used = (endpoint: Parameters<typeof backendIdOf>[0]) => void events.push(`used ${backendIdOf(endpoint)}`)
  return { events, dialer: createReachingDialer(dialer('remote'), 'edge-a', { reached, direct, used, suspect }) }
}

test('an endpoint that is reached without the tunnel is dialled over the network', async () => {
  const { events, dialer } = setUp()
  await dialer.dial(target, signal)
  assert.deepEqual(events, ['used edge-b/10.244.2.2:80', 'direct -/10.244.2.2:80'])
})

test('all else is left to the other dialer', async () => {
  const { events, dialer } = setUp()
  const { nodeName: _, ...outside } = target
  for (const each of [{ ...target, nodeName: 'edge-a' }, { ...target, kind: 'node' } as const]) {
    await dialer.dial(each, signal)
  }
  await dialer.dial(outside, signal)
  assert.deepEqual(
    events.map((event) => event.split(' ')[0]),
    ['remote', 'remote', 'remote'],
  )
})

test('an endpoint that is not reached so is in use all the same, which may change that', async () => {
  const { events, dialer } = setUp()
  await dialer.dial({ ...target, port: 81 }, signal)
  assert.deepEqual(events, ['used edge-b/10.244.2.2:81', 'remote edge-b/10.244.2.2:81'])
})

test('when nothing answers there the tunnel is tried, and the endpoint is suspected', async () => {
  const { events, dialer } = setUp('unreachable')
  await dialer.dial(target, signal)
  assert.deepEqual(events.slice(1), [
    'direct -/10.244.2.2:80',
    'suspect edge-b/10.244.2.2:80',
    'remote edge-b/10.244.2.2:80',
  ])
})

test('a refusal is an answer', async () => {
  const { events, dialer } = setUp('refused')
  await assert.rejects(dialer.dial(target, signal), { failure: 'refused' })
  assert.deepEqual(events.slice(1), ['direct -/10.244.2.2:80', 'suspect edge-b/10.244.2.2:80'])
})
