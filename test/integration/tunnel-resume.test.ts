/**
 * Flows that go on after their link was lost:
 *
 *     left ---- links ----> wire ----> right        the wire is cut, held, or forgets one of its ends
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type ByteStream, connectTcp, resetStream } from '../../src/net/index.ts'
import type { LinkKind } from '../../src/tunnel/links/hello.ts'
import type { Link } from '../../src/tunnel/links/link.ts'
import { WindowBudget, windowLimits } from '../../src/tunnel/links/window-budget.ts'
import { type LinkEnd, type LinkEndOptions, openFlow, startLinkEnd } from './link-end.ts'
import { eventually } from './tunnel-mesh.ts'

const megabyte = 1024 * 1024
const signal = AbortSignal.timeout(240_000)

/** Carries connections to a port until it is cut; while it is held nothing arrives, in either direction. */
class Wire implements AsyncDisposable {
  readonly #server: Server
  readonly #pairs = new Set<readonly [Socket, Socket]>()
  #isHeld = false

  private constructor(server: Server) {
    this.#server = server
  }

  static async to(port: number): Promise<Wire> {
    const server = createServer()
    const wire = new Wire(server)
    server.on('connection', async (client) => {
      client.on('error', () => {})
      const upstream = await connectTcp('127.0.0.1', port, signal)
      upstream.on('error', () => {})
      const pair = [client, upstream] as const
      wire.#pairs.add(pair)
      for (const [from, to] of [pair, [upstream, client] as const]) {
        from.on('data', (bytes) => {
          if (wire.#isHeld) return
          if (to.write(bytes)) return
          from.pause()
          to.once('drain', () => from.resume())
        })
        from.on('close', () => {
          to.destroy()
          wire.#pairs.delete(pair)
        })
      }
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return wire
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  /** What is under way is lost from now on, until the wire is cut. */
  hold(): void {
    this.#isHeld = true
  }

  cut(): void {
    for (const [client, upstream] of this.#pairs) {
      for (const socket of [client, upstream]) resetStream(socket, new Error('cut'))
    }
    this.#pairs.clear()
    this.#isHeld = false
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

function linksOf(from: LinkEnd, to: LinkEnd): Link[] {
  return [...(from.table.peer(to.peerId)?.links ?? [])]
}

async function join(from: LinkEnd, to: LinkEnd, wire: Wire, kind: LinkKind = 'shared'): Promise<void> {
  const socket = await connectTcp('127.0.0.1', wire.port, signal)
  await from.table.dial({ socket, path: 'direct' }, to.peerId, kind, signal)
}

async function createPair(left: LinkEndOptions = {}, right: LinkEndOptions = left) {
  const stack = new AsyncDisposableStack()
  const ends = [stack.use(await startLinkEnd('left', left)), stack.use(await startLinkEnd('right', right))] as const
  const wire = stack.use(await Wire.to(ends[1].port))
  await join(ends[0], ends[1], wire)
  return { left: ends[0], right: ends[1], wire, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

async function resumedFlows(end: LinkEnd): Promise<number> {
  return Number(/^edgemesh_tunnel_resumed_flows_total (\d+)/m.exec(await end.metrics.render())?.[1])
}

/** Sends pieces of random sizes one way and compares what comes out, at the reader's own pace. */
async function carry(from: ByteStream, to: ByteStream, total: number, isSlow: boolean): Promise<void> {
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  let bytes = 0
  to.on('data', (chunk: Buffer) => {
    received.update(chunk)
    bytes += chunk.length
    if (!isSlow || randomInt(20) > 0) return
    to.pause()
    setTimeout(() => to.resume(), 2)
  })
  const reading = once(to, 'end')
  const source = randomBytes(megabyte)
  for (let left = total; left > 0; ) {
    const start = randomInt(megabyte / 2)
    const piece = source.subarray(start, start + Math.min(left, 1 + randomInt(100_000)))
    left -= piece.length
    sent.update(piece)
    if (!from.write(piece)) await once(from, 'drain')
  }
  from.end()
  await reading
  assert.equal(bytes, total)
  assert.equal(received.digest('hex'), sent.digest('hex'))
}

/** Everything until the far end closes its direction; ours stays open. */
async function textOf(stream: ByteStream): Promise<string> {
  let text = ''
  stream.on('data', (chunk: Buffer) => {
    text += chunk
  })
  await once(stream, 'end')
  return text
}

test('flows of both directions are intact although their links are lost again and again, at any moment', async () => {
  await using pair = await createPair()
  const { left, right, wire } = pair
  const flows: [ByteStream, ByteStream][] = []
  while (flows.length < 4) flows.push(flows.length === 0 ? await openFlow(left, right) : await openFlow(right, left))
  let isOver = false
  const carrying = Promise.all(
    flows.flatMap(([opened, accepted], index) => [
      carry(opened, accepted, (4 + index * 4) * megabyte, index % 2 === 0),
      carry(accepted, opened, (2 + index * 4) * megabyte, index % 2 === 1),
    ]),
  ).finally(() => {
    isOver = true
  })
  let losses = 0
  const disturb = async () => {
    while (!isOver) {
      await delay(randomInt(20))
      const links = [...(left.table.peer(right.peerId)?.links ?? []), ...(right.table.peer(left.peerId)?.links ?? [])]
      const kind = randomInt(3)
      if (kind === 0) wire.cut()
      // One end alone knows at first.
      else if (kind === 1) links[randomInt(Math.max(1, links.length))]?.close(new Error('lost in the test'))
      losses += kind < 2 ? 1 : 0
      if (isOver) return
      const wanted = left.wanted.splice(0).concat(right.wanted.splice(0)).includes('bulk') ? 'bulk' : 'shared'
      const count = left.table.peer(right.peerId)?.usable('shared').length ?? 0
      if (count < 2) await join(left, right, wire).catch(() => {})
      if (wanted === 'bulk') await join(left, right, wire, 'bulk').catch(() => {})
    }
  }
  await Promise.all([carrying, disturb()])
  assert.ok(losses > 3, `${losses} losses`)
  assert.ok((await resumedFlows(left)) > 0)
  for (const end of [left, right]) {
    await eventually('nothing waits', () => end.table.heldBytes === 0)
  }
})

test('a question that went out on a dead link is asked again, also when the other direction goes on meanwhile', async () => {
  await using pair = await createPair()
  const { left, right, wire } = pair
  await using dead = await Wire.to(right.port)
  const [opened, accepted] = await openFlow(left, right)
  opened.write('before ')
  const there = textOf(accepted)
  const here = textOf(opened)
  await once(accepted, 'data')
  await join(left, right, dead)
  dead.hold()
  wire.cut()
  await eventually('both ends ask on the dead link', () =>
    [linksOf(left, right), linksOf(right, left)].every(({ length }) => length === 1),
  )
  await join(left, right, wire)
  // One end alone knows that it is dead.
  linksOf(left, right)[0]?.close(new Error('nothing was heard'))
  accepted.write('back')
  await once(opened, 'data')
  dead.cut()
  opened.end('after')
  accepted.end()
  assert.deepEqual([await there, await here], ['before after', 'back'])
})

test('a flow waits while there is no link, and goes on where it was', async () => {
  await using pair = await createPair()
  const { left, right, wire } = pair
  const [opened, accepted] = await openFlow(left, right)
  opened.write('before ')
  const there = textOf(accepted)
  const here = textOf(opened)
  await once(accepted, 'data')
  wire.hold()
  opened.write('during ')
  accepted.write('back ')
  await delay(50)
  wire.cut()
  await eventually('both ends know', () =>
    [left, right].every(({ table }) => [...table.all].every((peer) => peer.isStranded)),
  )
  opened.end('after')
  accepted.end('again')
  await join(left, right, wire)
  assert.equal(await there, 'before during after')
  assert.equal(await here, 'back again')
  await eventually('it is counted', () => [...left.table.all].every(({ flowCount }) => flowCount === 0))
  assert.equal(await resumedFlows(left), 1)
})

test('the last bytes of a flow that is over for its sender still arrive', async () => {
  await using pair = await createPair()
  const { left, right, wire } = pair
  const [opened, accepted] = await openFlow(left, right)
  opened.end('question')
  assert.equal(await textOf(accepted), 'question')
  wire.hold()
  accepted.end('answer')
  await finished(accepted)
  await eventually('it is closed', () => accepted.closed)
  wire.cut()
  await join(left, right, wire)
  assert.equal(await textOf(opened), 'answer')
})

test('flows whose peer does not come back in time end with the reason', async () => {
  await using pair = await createPair({ resumeMs: 100 })
  const [opened, accepted] = await openFlow(pair.left, pair.right)
  const ends = [opened, accepted].map((flow) =>
    assert.rejects(finished(flow.resume()), { name: 'PathLostError', code: 'ECONNRESET' }),
  )
  pair.wire.cut()
  await Promise.all(ends)
  await eventually('the peer is forgotten', () => [...pair.left.table.all].length === 0, 10_000)
})

test('a link that says nothing makes room for another one when there are as many as may be', async () => {
  await using pair = await createPair()
  const { left, right, wire } = pair
  for (let count = 1; count < 6; count++) await join(left, right, wire)
  const socket = await connectTcp('127.0.0.1', wire.port, signal)
  const handle: unknown = Reflect.get(socket, '_handle')
  const refused = left.table.dial({ socket, path: 'direct' }, right.peerId, 'shared', signal)
  await assert.rejects(refused, /there are 6 shared links already/)
  await eventually('nothing is left of it', () => handle instanceof Object && Reflect.get(handle, 'fd') === -1)
  for (const end of [left, right]) {
    for (const { links } of end.table.all) for (const link of links) link.lastHeardMs -= 4000
  }
  await join(left, right, wire)
  await eventually('one has gone', () => [...left.table.all].every(({ links }) => links.size <= 6))
})

test('flows that wait for a link end with the reason why there will be none', async () => {
  await using pair = await createPair()
  const [opened] = await openFlow(pair.left, pair.right)
  const ended = assert.rejects(finished(opened.resume()), {
    name: 'PathLostError',
    message: /the relay has revoked it/,
  })
  pair.wire.cut()
  const peer = pair.left.table.peer(pair.right.peerId)
  await eventually('it waits', () => peer?.isStranded === true)
  peer?.giveUp(new Error('the relay has revoked it'))
  await ended
})

test('a node that stops says so, and nobody waits for it', async () => {
  await using pair = await createPair()
  const [opened] = await openFlow(pair.left, pair.right)
  const ended = assert.rejects(finished(opened.resume()), { code: 'ECONNRESET' })
  await pair.right.table[Symbol.asyncDispose]()
  await ended
})

for (const [who, left, right] of [
  ['that does not know how', {}, { capabilities: ['move', 'datagrams'] }],
  ['on which it is switched off', { resumeMs: 0 }, {}],
] as const) {
  test(`with a peer ${who}, flows work as before and end with their link`, async () => {
    await using pair = await createPair(left, right)
    await join(pair.left, pair.right, pair.wire, 'bulk')
    const [opened, accepted] = await openFlow(pair.left, pair.right)
    // Long enough to need credit, and to move.
    await carry(opened, accepted, 9 * megabyte, false)
    const flows = await openFlow(pair.left, pair.right)
    const ends = flows.map((flow) => assert.rejects(finished(flow.resume()), { code: 'ECONNRESET' }))
    pair.wire.cut()
    await Promise.all(ends)
    assert.equal(await resumedFlows(pair.left), 0)
  })
}

test('what is kept for sending again is bounded, let go when it has arrived, and missed when there was no room', async () => {
  const budget = new WindowBudget({ ...windowLimits, maxReplayBytes: 64 * 1024 })
  await using pair = await createPair({ budget }, {})
  const { left, right, wire } = pair
  const [kept, keptThere] = await openFlow(left, right)
  kept.write(Buffer.alloc(20_000))
  await once(keptThere, 'data')
  keptThere.resume()
  assert.ok(budget.replayBytes > 0)
  await eventually('it has arrived', () => budget.replayBytes === 0, 10_000)
  const [large, largeThere] = await openFlow(left, right)
  wire.hold()
  kept.write('little')
  large.write(Buffer.alloc(megabyte))
  await delay(100)
  assert.ok(budget.replayBytes <= 64 * 1024)
  const ends = [large, largeThere].map((flow) => assert.rejects(finished(flow.resume()), /too much was under way/))
  wire.cut()
  await join(left, right, wire)
  await Promise.all(ends)
  kept.resume().end()
  keptThere.end()
  await finished(keptThere)
})

/** A channel for datagrams to an echo, and a way to use it. */
async function openEcho(left: LinkEnd, right: LinkEnd) {
  const request = { protocol: 'udp', nodeName: 'x', address: '10.1.1.1', port: 53 } as const
  const opening = left.table.peer(right.peerId)?.openDatagrams(request, signal)
  await eventually('it arrives', () => right.incoming.length > 0)
  const there = await right.incoming[0]?.acceptDatagrams(signal)
  const here = await opening
  assert.ok(here && there)
  there.onMessage((message) => there.send(message))
  let answer = ''
  here.onMessage((message) => {
    answer = message.toString()
  })
  const answers = async (text: string) => {
    await eventually(
      text,
      () => {
        if (answer !== text) here.send(Buffer.from(text))
        return answer === text
      },
      30_000,
    )
  }
  return { here, there, answers }
}

test('datagrams find their way again after a lost link', async () => {
  await using pair = await createPair()
  const { left, right, wire } = pair
  const { here, there, answers } = await openEcho(left, right)
  await answers('first')
  wire.cut()
  await eventually('both ends know', () =>
    [left, right].every(({ table }) => [...table.all].every((peer) => peer.isStranded)),
  )
  here.send(Buffer.from('nobody gets this'))
  await join(left, right, wire)
  await answers('second')
  here[Symbol.dispose]()
  await there.closed
})

test('datagrams leave a link of their own that has fallen silent, and want another one once it is lost', async () => {
  await using pair = await createPair()
  const { left, right } = pair
  const { answers } = await openEcho(left, right)
  await using own = await Wire.to(right.port)
  await join(left, right, own, 'datagram')
  await answers('first')
  own.hold()
  await answers('second')
  for (const { wanted } of [left, right]) wanted.splice(0)
  own.cut()
  await eventually('both want one', () => [left, right].every(({ wanted }) => wanted.includes('datagram')), 30_000)
})
