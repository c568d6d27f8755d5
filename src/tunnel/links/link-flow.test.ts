import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { decodeOffsets, FrameBatch, frameType } from './frame.ts'
import type { Link, Sender } from './link.ts'
import { LinkFlow } from './link-flow.ts'
import { WindowBudget } from './window-budget.ts'

/** A link that gives senders a turn when it is told to, and keeps what it is to send. */
class FakeLink {
  readonly kind = 'shared'
  isOpen = true
  flows = 0
  /** Control frames: type and offsets, or the text of a reset. */
  readonly told: (readonly [type: number, ...values: unknown[]])[] = []
  readonly #ready = new Set<Sender>()

  static create(): FakeLink & Link {
    return new FakeLink() as unknown as FakeLink & Link
  }

  control(type: number, _flow: number, payload: Buffer): void {
    this.told.push(type === frameType.reset ? [type, payload.toString()] : [type, ...decodeOffsets(payload)])
  }

  ready(sender: Sender): void {
    this.#ready.add(sender)
  }

  forget(sender: Sender): void {
    this.#ready.delete(sender)
  }

  /** Gives all that are ready one turn. */
  turn(): void {
    for (const sender of [...this.#ready]) {
      this.#ready.delete(sender)
      if (sender.fill(new FrameBatch(), 65_536)) this.#ready.add(sender)
    }
  }

  get moves(): unknown[] {
    return this.told.filter(([type]) => type === frameType.move).map(([, offset]) => offset)
  }
}

function createFlow() {
  const links = [FakeLink.create(), FakeLink.create(), FakeLink.create()] as const
  const owner = { budget: new WindowBudget(), onLong() {}, onDone() {}, onResumed() {} }
  const flow = new LinkFlow({ id: 1, link: links[0], canResume: true }, owner)
  return { flow, links }
}

test('a flow moves at the offset that it has come to', () => {
  const { flow, links } = createFlow()
  flow.write('abc')
  links[0].turn()
  flow.moveTo(links[1])
  assert.deepEqual(links[1].moves, [3])
  assert.deepEqual([links[0].flows, links[1].flows], [1, 1])
})

test('it moves again once it has sent something, since moves to one offset could not be told apart', () => {
  const { flow, links } = createFlow()
  flow.moveTo(links[1])
  flow.moveTo(links[2])
  assert.equal(flow.link, links[1])
  flow.write('abc')
  links[1].turn()
  assert.equal(flow.link, links[2])
  assert.deepEqual([links[1].moves, links[2].moves], [[0], [3]])
})

test('it does not move again to a link that has gone meanwhile', () => {
  const { flow, links } = createFlow()
  flow.moveTo(links[1])
  flow.moveTo(links[2])
  links[2].isOpen = false
  flow.write('abc')
  links[1].turn()
  assert.equal(flow.link, links[1])
})

test('after its end it stays where it is, since a move could overtake the end', async () => {
  const { flow, links } = createFlow()
  flow.end('abc')
  links[0].turn()
  links[0].turn()
  await once(flow, 'finish')
  flow.moveTo(links[1])
  assert.equal(flow.link, links[0])
  assert.deepEqual(links[1].told, [])
})

test('with a move the credit is told again, since what was told before may be lost with its link', () => {
  const { flow, links } = createFlow()
  flow.resume()
  for (let count = 0; count < 3; count++) flow.onData(links[0], Buffer.alloc(20_000))
  const credits = links[0].told.filter(([type]) => type === frameType.credit)
  assert.equal(credits.length, 1)
  flow.moveTo(links[1])
  const [move, credit] = links[1].told
  assert.deepEqual(move?.slice(0, 2), [frameType.move, 0])
  assert.deepEqual(credit, [frameType.credit, credits[0]?.[1], 60_000])
})
