import assert from 'node:assert/strict'
import { test } from 'node:test'
import { followOwnNetwork, type NetworkChange } from './own-network.ts'

const address = { address: '192.0.2.7', prefixLength: 24 }
const other = { address: '192.0.2.8', prefixLength: 24 }

interface Moment {
  readonly addresses?: readonly (typeof address)[]
  readonly routes?: string
  readonly passedMs?: number
}

/** What is told while these moments pass, one a look. */
async function changesIn(moments: readonly Moment[]): Promise<{ changes: NetworkChange[]; looks: number }> {
  const changes: NetworkChange[] = []
  const left = [...moments]
  let now: Required<Moment> = { addresses: [address], routes: 'eth0', passedMs: 1000 }
  let clockMs = 0
  let looks = 0
  const following = followOwnNetwork(
    {
      interfaceAddresses: () => now.addresses,
      defaultRoutes: () => now.routes,
      onLook: async () => {
        looks += 1
      },
      onChange: (what) => changes.push(what),
      nowMs: () => clockMs,
      pause: async () => {
        const next = left.shift()
        if (next === undefined) throw new Error('over')
        now = { ...now, passedMs: 1000, ...next }
        clockMs += now.passedMs
      },
    },
    new AbortController().signal,
  )
  await assert.rejects(following, { message: 'over' })
  return { changes, looks }
}

test('a network that stays as it is is looked at, and nothing is told', async () => {
  assert.deepEqual(await changesIn([{}, { passedMs: 4000 }, {}]), { changes: [], looks: 3 })
})

test('another address is told once, in whatever order they come', async () => {
  const both = [address, other]
  const { changes } = await changesIn([{ addresses: both }, { addresses: [other, address] }, { addresses: [other] }])
  assert.deepEqual(changes, ['addresses', 'addresses'])
})

test('another way out is told', async () => {
  assert.deepEqual((await changesIn([{ routes: 'eth1' }, {}])).changes, ['routes'])
})

test('a long sleep is told, and that of a clock set back is none', async () => {
  assert.deepEqual((await changesIn([{ passedMs: 20_000 }, {}, { passedMs: -20_000 }])).changes, ['sleep'])
})
