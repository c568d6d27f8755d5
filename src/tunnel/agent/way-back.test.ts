import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TaskGroup } from '../../runtime/index.ts'
import type { Carrier } from '../flows/carrier.ts'
import { createWayBack } from './way-back.ts'

/** A way back to a peer that is stranded for so many attempts, all of which fail but the last, or after which there is none. */
function createStranded(attempts: number, finalRefusal?: string) {
  const tasks = new TaskGroup(() => {})
  const { promise: found, resolve } = Promise.withResolvers<void>()
  const sought: string[] = []
  const givenUp: string[] = []
  const returnTo = createWayBack({
    tasks,
    book: { nameOf: () => 'edge-b' },
    isStranded: () => sought.length < attempts && givenUp.length === 0,
    finalRefusalOf: () => (sought.length === attempts - 1 ? finalRefusal : undefined),
    giveUp(peerId, reason) {
      givenUp.push(`${peerId}: ${reason}`)
      resolve()
    },
    paths: {
      async carrierTo(nodeName) {
        sought.push(nodeName)
        if (sought.length < attempts) throw new Error('no path')
        resolve()
        return {} as Carrier
      },
    },
  })
  return { tasks, returnTo, sought, givenUp, found }
}

test('a path is sought until nobody waits for it, and by one task alone', async () => {
  const { tasks, returnTo, sought, found } = createStranded(3)
  await using _tasks = tasks
  returnTo('peer')
  returnTo('peer')
  await found
  assert.deepEqual(sought, ['edge-b', 'edge-b', 'edge-b'])
})

test('nothing is sought for a peer that has its links, or by a node that stops', async () => {
  const { tasks, returnTo, sought } = createStranded(0)
  returnTo('peer')
  await tasks[Symbol.asyncDispose]()
  returnTo('peer')
  assert.deepEqual(sought, [])
})

test('flows do not wait for a path that all relays refuse', async () => {
  const { tasks, returnTo, sought, givenUp, found } = createStranded(3, 'it is revoked')
  await using _tasks = tasks
  returnTo('peer')
  await found
  assert.deepEqual(givenUp, ['peer: it is revoked'])
  assert.equal(sought.length, 2)
})
