import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import type { PeerConnection } from './peer-connection.ts'
import { agentSilence, type SilenceWatchOptions, serverSilence, watchSilence } from './silence.ts'

/** A connection that a test plays: what it is used for, and what is done to it. */
class PlayedConnection implements PeerConnection {
  readonly id = '1'
  readonly localAddress = undefined
  readonly tcpEnds: PeerConnection['tcpEnds']
  readonly peerId: string
  readonly address = '/ip4/192.0.2.1/tcp/1'
  readonly relayPeerId: string | undefined
  readonly isOpen = true
  readonly isOutbound = true
  lastHeardMs = 100_000
  askedSinceMs = 0
  isBusy = false
  answers = false
  probes = 0
  aborted = ''
  clock = () => 0

  constructor(peerId = 'peer', relayPeerId?: string) {
    this.peerId = peerId
    this.relayPeerId = relayPeerId
    const [local, remote] = [40_000, 20_004].map((port) => ({ address: '192.0.2.1', port }))
    this.tcpEnds = relayPeerId === undefined && local && remote ? { local, remote } : undefined
  }

  whenClosed(): Promise<void> {
    return Promise.resolve()
  }

  openStream(): Promise<never> {
    return assert.fail('a probe needs no stream')
  }

  probe(signal: AbortSignal): Promise<void> {
    this.probes += 1
    if (!this.answers) {
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    this.lastHeardMs = this.clock()
    return Promise.resolve()
  }

  noteAsked(): void {
    assert.fail('a watch asks by probes')
  }

  joinedHeardMs = 0
  #doubtedMs = 0

  get isDoubted(): boolean {
    return this.#doubtedMs > Math.max(this.lastHeardMs, this.joinedHeardMs)
  }

  noteDoubted(): void {
    this.#doubtedMs = this.clock()
  }

  noteJoinedHeard(): void {
    assert.fail('a watch hears of links from others')
  }

  measure(): Promise<never> {
    return assert.fail('silence is no round trip')
  }

  abort(reason: Error): void {
    this.aborted = reason.message
  }
}

/** A clock, and connections under watch; the peer `relay` is a relay of ours, `client` is reached through us. */
function watch(
  t: TestContext,
  connections: readonly PlayedConnection[],
  policy = agentSilence,
  isReachable?: SilenceWatchOptions['isReachable'],
  inspect?: SilenceWatchOptions['inspect'],
) {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] })
  let nowMs = 100_000
  for (const connection of connections) connection.clock = () => nowMs
  const silent: string[] = []
  const doubts: string[] = []
  const watching = watchSilence({
    policy,
    onDoubt: ({ peerId, isDoubted }) => void doubts.push(`${peerId} ${isDoubted ? 'is doubted' : 'is heard again'}`),
    ...(isReachable !== undefined && { isReachable }),
    ...(inspect !== undefined && { inspect }),
    onSilent: ({ peerId }) => void silent.push(peerId),
    connections: () => connections.filter(({ aborted }) => aborted === ''),
    restingUseOf: (peerId) => (peerId === 'relay' ? 'kept' : peerId === 'client' ? 'served' : 'idle'),
    nowMs: () => nowMs,
  })
  t.after(() => watching[Symbol.dispose]())
  return {
    watching,
    silent,
    doubts,
    jump(ms: number) {
      nowMs += ms
    },
    /** Lets seconds pass, half by half. */
    async pass(seconds: number, each = (_nowMs: number) => {}) {
      for (let half = 0; half < 2 * seconds; half++) {
        nowMs += 500
        each(nowMs)
        t.mock.timers.tick(500)
        for (let turn = 0; turn < 10; turn++) await Promise.resolve()
      }
    },
  }
}

test('an idle neighbour is neither asked nor given up', async (t) => {
  const peer = new PlayedConnection()
  await watch(t, [peer]).pass(3600)
  assert.deepEqual([peer.probes, peer.aborted], [0, ''])
})

test('an idle relay is asked every 20 s, and given up when it has not answered for 10 s', async (t) => {
  const relay = new PlayedConnection('relay')
  const { pass } = watch(t, [relay])
  relay.answers = true
  await pass(120)
  assert.equal(relay.aborted, '')
  assert.ok(relay.probes >= 5 && relay.probes <= 6, `${relay.probes} probes`)
  relay.answers = false
  relay.lastHeardMs = 220_000
  await pass(29.5)
  assert.equal(relay.aborted, '')
  await pass(0.5)
  assert.equal(relay.aborted, 'nothing was heard for 30 s')
})

test('a peer with open flows that says nothing is asked once, and given up after 12 s', async (t) => {
  const peer = new PlayedConnection()
  peer.isBusy = true
  const { pass } = watch(t, [peer])
  await pass(4.5)
  assert.equal(peer.probes, 0)
  await pass(7)
  assert.deepEqual([peer.probes, peer.aborted], [1, ''])
  await pass(0.5)
  assert.deepEqual([peer.probes, peer.aborted], [1, 'nothing was heard for 12 s'])
})

test('a busy peer that answers is asked again and again, and kept', async (t) => {
  const peer = new PlayedConnection()
  Object.assign(peer, { isBusy: true, answers: true })
  await watch(t, [peer]).pass(60)
  assert.equal(peer.aborted, '')
  assert.ok(peer.probes >= 10 && peer.probes <= 12, `${peer.probes} probes`)
})

test('a busy peer whose bytes come now and then is neither asked nor given up', async (t) => {
  const peer = new PlayedConnection()
  peer.isBusy = true
  await watch(t, [peer]).pass(60, (nowMs) => {
    if (nowMs % 4000 === 0) peer.lastHeardMs = nowMs
  })
  assert.deepEqual([peer.probes, peer.aborted], [0, ''])
})

test('a connection that somebody waits for is asked after 1 s and given up within 5 s', async (t) => {
  const peer = new PlayedConnection()
  const { pass } = watch(t, [peer])
  await pass(600)
  peer.askedSinceMs = 700_000
  await pass(0.5)
  assert.equal(peer.probes, 0)
  await pass(3.5)
  assert.deepEqual([peer.probes, peer.aborted], [1, ''])
  await pass(0.5)
  assert.match(peer.aborted, /^nothing was heard for/)
})

test('a relay is asked, and given up, for what runs through it', async (t) => {
  const relay = new PlayedConnection('relay')
  const far = new PlayedConnection('far', 'relay')
  const { pass } = watch(t, [relay, far])
  await pass(10)
  far.askedSinceMs = 110_000
  await pass(1)
  assert.deepEqual([relay.probes, far.probes], [1, 1])
  await pass(3.5)
  assert.match(relay.aborted, /^nothing was heard for/)
})

test('a relay with flows through it on which nothing is sent gets as long as a busy peer', async (t) => {
  const relay = new PlayedConnection('relay')
  const far = new PlayedConnection('far', 'relay')
  far.isBusy = true
  const { pass } = watch(t, [relay, far])
  await pass(11.5)
  assert.equal(relay.aborted, '')
  await pass(0.5)
  assert.equal(relay.aborted, 'nothing was heard for 12 s')
})

test('what was asked before something came is answered', async (t) => {
  const peer = new PlayedConnection()
  Object.assign(peer, { askedSinceMs: 100_100, lastHeardMs: 100_200 })
  await watch(t, [peer]).pass(60)
  assert.deepEqual([peer.probes, peer.aborted], [0, ''])
})

test('after this process stood still the peer gets its time anew', async (t) => {
  const peer = new PlayedConnection()
  peer.isBusy = true
  const { pass, jump } = watch(t, [peer])
  await pass(3)
  jump(3_600_000)
  await pass(11)
  assert.equal(peer.aborted, '')
  await pass(2)
  assert.match(peer.aborted, /^nothing was heard for \d+ s$/)
})

test('who is reached through us is not asked, and given up when it has missed two probes of its own', async (t) => {
  const client = new PlayedConnection('client')
  const { pass } = watch(t, [client])
  await pass(44.5)
  assert.deepEqual([client.probes, client.aborted], [0, ''])
  await pass(0.5)
  assert.deepEqual([client.probes, client.aborted], [0, 'nothing was heard for 45 s'])
})

test('a server asks nobody and gives up who has missed two probes', async (t) => {
  const peer = new PlayedConnection()
  peer.isBusy = true
  const { pass } = watch(t, [peer], serverSilence)
  await pass(44.5)
  assert.deepEqual([peer.probes, peer.aborted], [0, ''])
  await pass(0.5)
  assert.deepEqual([peer.probes, peer.aborted], [0, 'nothing was heard for 45 s'])
})

test('nothing happens after disposal', async (t) => {
  const peer = new PlayedConnection()
  peer.isBusy = true
  const { pass, watching } = watch(t, [peer])
  watching[Symbol.dispose]()
  await pass(30)
  assert.deepEqual([peer.probes, peer.aborted], [0, ''])
})

test('a relay under traffic that says nothing is given up within 5 s', async (t) => {
  const relay = new PlayedConnection('relay')
  const { pass, silent } = watch(t, [relay])
  relay.answers = true
  await pass(2)
  assert.equal(relay.probes, 0, 'nothing was sent')
  relay.answers = false
  relay.askedSinceMs = 102_000
  await pass(3.5)
  assert.deepEqual([relay.probes, relay.aborted], [1, ''])
  await pass(0.5)
  assert.equal(relay.aborted, 'nothing was heard for 6 s')
  assert.deepEqual(silent, ['relay'])
})

test('flows through a silent relay end as soon when others are heard, else the line may be away and they have 12 s', async (t) => {
  const relay = new PlayedConnection('relay')
  const flows = new PlayedConnection('peer', 'relay')
  const other = new PlayedConnection('other')
  flows.isBusy = true
  const { pass } = watch(t, [relay, flows, other])
  relay.askedSinceMs = 100_100
  await pass(8)
  assert.equal(relay.aborted, '')
  other.lastHeardMs = 108_000
  await pass(2)
  assert.equal(relay.aborted, '', 'the line may be back just now')
  await pass(0.5)
  assert.match(relay.aborted, /^nothing was heard/)
})

suite('a single relay with flows that says nothing', () => {
  function silentRelay(t: TestContext, isReachable: SilenceWatchOptions['isReachable']) {
    const relay = new PlayedConnection('relay')
    const flows = new PlayedConnection('peer', 'relay')
    flows.isBusy = true
    flows.askedSinceMs = 100_100
    return { relay, flows, ...watch(t, [relay, flows], agentSilence, isReachable) }
  }

  test('is given up within 5 s when its machine takes a new connection', async (t) => {
    const knocks: string[] = []
    const { relay, pass, silent } = silentRelay(t, ({ peerId }) => {
      knocks.push(peerId)
      return Promise.resolve(true)
    })
    await pass(1)
    assert.deepEqual(knocks, [], 'it is asked first')
    await pass(3)
    assert.deepEqual([knocks, relay.aborted], [['relay'], ''])
    await pass(1)
    assert.deepEqual([silent, relay.aborted], [['relay'], 'nothing was heard for 5 s'])
  })

  const noAnswer: SilenceWatchOptions['isReachable'] = (_connection, signal) =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

  test('keeps its flows for 12 s when that is not answered either: our own line may be away', async (t) => {
    let knocks = 0
    const { relay, pass } = silentRelay(t, (connection, signal) => {
      knocks += 1
      return noAnswer(connection, signal)
    })
    await pass(11.5)
    assert.equal(relay.aborted, '')
    assert.ok(knocks >= 4 && knocks <= 8, `${knocks} knocks`)
    await pass(0.5)
    assert.equal(relay.aborted, 'nothing was heard for 12 s')
  })

  test('is doubted within 5 s then, so that nothing new begins on it, until it is heard', async (t) => {
    const { relay, pass, doubts } = silentRelay(t, noAnswer)
    await pass(4)
    assert.deepEqual(doubts, [])
    await pass(1)
    assert.deepEqual([doubts, relay.aborted], [['relay is doubted'], ''])
    await pass(3)
    assert.equal(doubts.length, 1, 'that is told once')
    relay.lastHeardMs = 108_000
    await pass(0.5)
    assert.deepEqual([doubts[1], relay.isDoubted, relay.aborted], ['relay is heard again', false, ''])
  })

  test('keeps its flows when our own line was away: what is old is heard a moment after what is new', async (t) => {
    let isLineBack = false
    const { relay, pass } = silentRelay(t, () => Promise.resolve(isLineBack))
    await pass(5)
    isLineBack = true
    await pass(3)
    assert.equal(relay.aborted, '')
    await pass(1.5)
    assert.match(relay.aborted, /^nothing was heard/, 'unless it stays silent')
  })

  test('keeps its flows while links that it joins are heard: its answers wait in a line that is full', async (t) => {
    const { relay, pass, doubts } = silentRelay(t, () => Promise.resolve(true))
    await pass(11.5, (nowMs) => {
      relay.joinedHeardMs = nowMs - 1000
    })
    assert.deepEqual([relay.aborted, doubts], ['', []])
  })

  test('is given up, or doubted, when links that it joins were heard for the last time just before', async (t) => {
    const given = silentRelay(t, () => Promise.resolve(true))
    given.relay.joinedHeardMs = 100_500
    await given.pass(5)
    assert.match(given.relay.aborted, /^nothing was heard/)
  })

  test('keeps them, and is not doubted, while its machine takes what waits in a full line', async (t) => {
    const relay = new PlayedConnection('relay')
    const flows = new PlayedConnection('peer', 'relay')
    flows.isBusy = true
    flows.askedSinceMs = 100_100
    let acknowledgedBytes = 0
    let isFull = true
    const progressOf = async () => {
      if (isFull) acknowledgedBytes += 8000
      return { acknowledgedBytes, waitingBytes: 500_000 }
    }
    const inspect = async () => ({ progressOf, [Symbol.dispose]() {} })
    const { pass, doubts } = watch(t, [relay, flows], agentSilence, () => Promise.resolve(true), inspect)
    await pass(60)
    assert.deepEqual([relay.aborted, flows.aborted, doubts], ['', '', []])
    isFull = false
    await pass(5)
    assert.match(relay.aborted, /^nothing was heard/, 'unless nothing is taken any more')
  })

  test('keeps them when it speaks again', async (t) => {
    const { relay, pass } = silentRelay(t, () => Promise.resolve(true))
    await pass(3)
    relay.lastHeardMs = 103_000
    await pass(8)
    assert.equal(relay.aborted, '')
  })

  test('is not knocked at while nothing is sent', async (t) => {
    const { flows, pass } = silentRelay(t, () => assert.fail('nobody waits'))
    flows.askedSinceMs = 0
    await pass(11)
  })
})
