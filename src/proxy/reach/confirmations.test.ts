import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Backend } from '../../model/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { type Confirmations, createConfirmations, type Place } from './confirmations.ts'

const web: Place = { nodeName: 'edge-b', address: '10.244.2.2', tcpPorts: new Set([80, 81]) }
const twin: Place = { nodeName: 'edge-c', address: '10.244.2.2', tcpPorts: new Set([80]) }
const endpoint = ({ nodeName, address }: Place, port = 80): Backend => ({ nodeName, address, port })

/** A network that tests change, and a clock that they move. */
function setUp(seesUse = true) {
  const network = {
    /** The node that each address leads to, by source address. */
    leadsTo: new Map([['10.244.2.2', 'edge-b']]),
    deaf: new Set<string | undefined>(),
    closed: new Set<number>(),
    against: new Map<string, string>(),
    sources: [undefined] as (string | undefined)[],
    onAsk: () => {},
    /** Addresses that begin so answer only then. */
    slow: undefined as { readonly address: string; readonly answer: Promise<void> } | undefined,
  }
  const asked: string[] = []
  const connected: number[] = []
  let nowMs = 1_000
  let changes = 0
  let sleeper: (() => void) | undefined
  let restMs = Number.NaN
  const confirmations: Confirmations = createConfirmations({
    reasonAgainst: ({ nodeName }) => network.against.get(nodeName),
    sources: () => network.sources,
    async ask({ nodeName, address }, source) {
      asked.push(`${nodeName} from ${source}`)
      network.onAsk()
      if (network.slow !== undefined && address.startsWith(network.slow.address)) await network.slow.answer
      return network.leadsTo.get(address) === nodeName && !network.deaf.has(source) ? undefined : 'no answer'
    },
    async accepts(_address, port) {
      connected.push(port)
      return !network.closed.has(port)
    },
    seesUse,
    onChange: () => {
      changes += 1
    },
    logger: silentLogger,
    nowMs: () => nowMs,
    sleep: (durationMs, signal) =>
      new Promise((resolve, reject) => {
        sleeper = resolve
        restMs = durationMs
        if (signal.aborted) reject(signal.reason)
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      }),
  })
  /** Resolves when everything that was due has been looked at; gives the rest until the next look. */
  const rested = async () => {
    await new Promise(setImmediate)
    return restMs
  }
  const advance = async (ms: number) => {
    nowMs += ms
    sleeper?.()
    return await rested()
  }
  return { network, asked, connected, confirmations, rested, advance, changes: () => changes }
}

test('a place is reached once it has answered and its ports take connections, and only as that node’s', async () => {
  const { confirmations, rested, connected, changes } = setUp()
  await using _ = confirmations
  const before = confirmations.reached
  confirmations.want([web, twin])
  await rested()
  const { reached } = confirmations
  assert.notEqual(reached, before)
  assert.deepEqual([reached.has(endpoint(web), 'tcp'), reached.has(endpoint(web), 'udp')], [true, true])
  assert.equal(reached.has(endpoint(web, 99), 'tcp'), false)
  assert.deepEqual([reached.has(endpoint(twin), 'tcp'), reached.has(endpoint(twin), 'udp')], [false, false])
  assert.deepEqual(connected.sort(), [80, 81], 'each port once, and none of the twin')
  assert.equal(changes(), 1)
  assert.deepEqual(confirmations.status(), [
    { nodeName: 'edge-b', address: '10.244.2.2' },
    { nodeName: 'edge-c', address: '10.244.2.2', reason: 'no answer' },
  ])
})

test('it is asked again every two seconds, and the first question without an answer takes it back', async () => {
  const { network, confirmations, asked, rested, advance, connected } = setUp()
  await using _ = confirmations
  confirmations.want([web])
  await rested()
  await advance(1_999)
  assert.equal(asked.length, 1)
  await advance(1)
  assert.equal(asked.length, 2)
  assert.equal(connected.length, 2, 'nobody is connected to again')
  network.leadsTo.set('10.244.2.2', 'edge-c')
  await advance(2_000)
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
})

test('one that does not answer is asked less and less often, and at once when the network has changed', async () => {
  const { network, confirmations, asked, rested, advance } = setUp()
  await using _ = confirmations
  network.leadsTo.clear()
  confirmations.want([web])
  await rested()
  for (let second = 0; second < 120; second++) await advance(1_000)
  assert.ok(asked.length > 4 && asked.length < 12, `asked ${asked.length} times in two minutes`)
  network.leadsTo.set('10.244.2.2', 'edge-b')
  confirmations.askAgain()
  await rested()
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), true)
})

test('it must answer each source address, because answers to pods may take another way', async () => {
  const { network, confirmations, rested, advance } = setUp()
  await using _ = confirmations
  network.sources = [undefined, '10.244.1.1']
  network.deaf.add('10.244.1.1')
  confirmations.want([web])
  await rested()
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
  network.deaf.clear()
  await advance(2_000)
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), true)
})

test('what is known here is enough to ask nobody, and to take back what was confirmed', async () => {
  const { network, confirmations, asked, rested, advance } = setUp()
  await using _ = confirmations
  network.against.set('edge-b', 'no path')
  confirmations.want([web])
  await rested()
  assert.deepEqual([asked, confirmations.status()[0]?.reason], [[], 'no path'])
  network.against.clear()
  await advance(1_000)
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), true)
  network.against.set('edge-b', 'its route is gone')
  await advance(1_000)
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
  assert.equal(confirmations.status()[0]?.reason, 'its route is gone')
})

test('a port behind a firewall is left to the tunnel, and tried again later', async () => {
  const { network, confirmations, rested, advance } = setUp()
  await using _ = confirmations
  network.closed.add(81)
  confirmations.want([web])
  await rested()
  const has = (port: number) => confirmations.reached.has(endpoint(web, port), 'tcp')
  assert.deepEqual([has(80), has(81)], [true, false])
  assert.equal(confirmations.status()[0]?.reason, 'no connection to port 81')
  network.closed.clear()
  await advance(2_000)
  assert.deepEqual([has(80), has(81)], [true, true])
})

test('a suspected endpoint is connected to at once, and left to the tunnel when it does not accept', async () => {
  const { network, confirmations, connected, rested } = setUp()
  await using _ = confirmations
  confirmations.want([web])
  await rested()
  confirmations.suspect(endpoint(web))
  await rested()
  assert.deepEqual(connected, [80, 81, 80])
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), true)
  network.closed.add(80)
  confirmations.suspect(endpoint(web))
  await rested()
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
  assert.equal(confirmations.reached.has(endpoint(web, 81), 'tcp'), true)
  confirmations.suspect(endpoint(twin))
})

test('places that matter no more are forgotten, and nothing happens where nothing changed', async () => {
  const { confirmations, rested, changes } = setUp()
  await using _ = confirmations
  confirmations.want([web])
  await rested()
  const { reached } = confirmations
  confirmations.want([{ ...web }])
  await rested()
  assert.equal(confirmations.reached, reached)
  confirmations.want([{ ...web, tcpPorts: new Set([81]) }])
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
  confirmations.want([])
  assert.deepEqual(confirmations.status(), [])
  assert.equal(confirmations.reached.has(endpoint(web, 81), 'tcp'), false)
  assert.equal(changes(), 3)
})

test('however many places there are, a hundred questions a second are enough', async () => {
  const { network, confirmations, asked, rested, advance } = setUp()
  await using _ = confirmations
  const places = Array.from({ length: 1_000 }, (_, at) => {
    const address = `10.244.${Math.floor(at / 250)}.${(at % 250) + 1}`
    network.leadsTo.set(address, 'edge-b')
    return { nodeName: 'edge-b', address, tcpPorts: new Set<number>() }
  })
  confirmations.want(places)
  await rested()
  asked.length = 0
  for (let second = 0; second < 30; second++) await advance(1_000)
  assert.equal(asked.length, 3_000)
})

/** Confirms places, and lets the time pass in which nothing is sent to them. */
async function setUpIdle(places: readonly Place[], seesUse = true) {
  const known = setUp(seesUse)
  known.confirmations.want(places)
  await known.rested()
  for (let second = 0; second < 60; second++) await known.advance(1_000)
  known.asked.length = 0
  const pass = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) await known.advance(1_000)
  }
  return { ...known, pass }
}

test('a place that nothing is sent to stays reached, and is asked every two minutes', async () => {
  const { confirmations, asked, pass } = await setUpIdle([web])
  await using _ = confirmations
  await pass(20 * 60)
  assert.equal(asked.length, 10)
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), true)
})

test('an idle place is asked at once when it is used, and for a minute after as often as any', async () => {
  const { confirmations, asked, rested, pass, network } = await setUpIdle([web])
  await using _ = confirmations
  await pass(30)
  asked.length = 0
  confirmations.contacted(new Set(['10.244.9.9']))
  confirmations.contacted(new Set(['10.244.2.2']))
  await rested()
  assert.equal(asked.length, 1)
  await pass(59)
  assert.equal(asked.length, 30)
  confirmations.used(endpoint(web))
  await pass(1)
  network.leadsTo.set('10.244.2.2', 'edge-c')
  await pass(2)
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
})

test('a dial to an idle place makes it asked as well, also where another node has the same address', async () => {
  const { confirmations, asked, rested, pass, network } = await setUpIdle([web, twin])
  await using _ = confirmations
  network.leadsTo.set('10.244.2.2', 'edge-c')
  confirmations.used(endpoint(web))
  await rested()
  assert.deepEqual(asked, ['edge-b from undefined'])
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
  for (let minute = 0; minute < 2; minute++) {
    confirmations.used(endpoint(twin))
    await pass(40)
  }
  assert.equal(confirmations.reached.has(endpoint(twin), 'tcp'), true)
  confirmations.used({ nodeName: 'edge-d', address: '10.244.4.2', port: 80 })
})

test('a new port of an idle place is connected to at once', async () => {
  const { confirmations, rested, connected, pass } = await setUpIdle([web])
  await using _ = confirmations
  await pass(10)
  connected.length = 0
  confirmations.want([{ ...web, tcpPorts: new Set([80, 82]) }])
  await rested()
  assert.deepEqual(connected, [82])
  assert.equal(confirmations.reached.has(endpoint(web, 82), 'tcp'), true)
  assert.equal(confirmations.reached.has(endpoint(web, 81), 'tcp'), false)
})

test('an idle place is asked at once when the network has changed, and soon again when it does not answer', async () => {
  const { confirmations, asked, rested, pass, network } = await setUpIdle([web])
  await using _ = confirmations
  network.leadsTo.clear()
  confirmations.askAgain()
  await rested()
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
  await pass(2)
  assert.ok(asked.length >= 2, `asked ${asked.length} times`)
  await pass(120)
  asked.length = 0
  await pass(240)
  assert.equal(asked.length, 2, 'and seldom once it is known that it does not')
})

test('a change of the network while a place is asked is not forgotten', async () => {
  const { confirmations, asked, rested, network } = setUp()
  await using _ = confirmations
  network.onAsk = () => {
    network.onAsk = () => {}
    confirmations.askAgain()
  }
  confirmations.want([web])
  await rested()
  assert.equal(asked.length, 2)
})

test('one that is waited for holds up no other', async () => {
  const { confirmations, rested, advance, network } = setUp()
  const slow: Place = { nodeName: 'edge-s', address: '10.244.9.2', tcpPorts: new Set() }
  const answer = Promise.withResolvers<void>()
  await using _ = confirmations
  network.leadsTo.set(slow.address, slow.nodeName)
  network.slow = { address: slow.address, answer: answer.promise }
  confirmations.want([slow, web])
  await rested()
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), true)
  network.leadsTo.set(web.address, 'edge-c')
  await advance(1_000)
  await advance(1_000)
  assert.equal(confirmations.reached.has(endpoint(web), 'tcp'), false)
  assert.equal(confirmations.reached.has(endpoint(slow), 'udp'), false)
  answer.resolve()
  await rested()
  assert.equal(confirmations.reached.has(endpoint(slow), 'udp'), true)
})

test('of very many some are asked at a time', async () => {
  const { confirmations, rested, asked, network } = setUp()
  await using _ = confirmations
  const places = Array.from({ length: 80 }, (_, at) => {
    return { nodeName: 'edge-b', address: `10.244.5.${at}`, tcpPorts: new Set<number>() }
  })
  const answer = Promise.withResolvers<void>()
  network.slow = { address: '10.244.5.', answer: answer.promise }
  confirmations.want(places)
  assert.equal(await rested(), 1_000)
  assert.equal(asked.length, 32)
  answer.resolve()
  await rested()
  assert.equal(asked.length, 80)
})

test('an idle place whose path comes back is asked as often as any for a minute', async () => {
  const { confirmations, asked, pass, network } = await setUpIdle([web])
  await using _ = confirmations
  network.against.set('edge-b', 'no path')
  await pass(100)
  network.against.clear()
  network.leadsTo.clear()
  await pass(4)
  assert.ok(asked.length >= 2, `asked ${asked.length} times`)
})

test('however many idle places there are, a question every five seconds is enough', async () => {
  const places = Array.from({ length: 100 }, (_, at) => {
    return { nodeName: `edge-${at}`, address: `10.244.${at}.2`, tcpPorts: new Set<number>() }
  })
  const known = setUp()
  await using confirmations = known.confirmations
  for (const { nodeName, address } of places) known.network.leadsTo.set(address, nodeName)
  confirmations.want(places)
  await known.rested()
  for (let second = 0; second < 60; second++) await known.advance(1_000)
  known.asked.length = 0
  for (let second = 0; second < 2_000; second++) await known.advance(1_000)
  assert.equal(known.asked.length, 400)
})

test('where it is not seen what is used all places count as used', async () => {
  const { confirmations, asked, pass } = await setUpIdle([web], false)
  await using _ = confirmations
  await pass(60)
  assert.equal(asked.length, 30)
})
