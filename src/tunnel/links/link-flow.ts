import { Duplex } from 'node:stream'
import type { Borrower, BufferReturner, Lender } from '../../net/index.ts'
import { encodeOffset, type FrameBatch, frameType, LinkProtocolError } from './frame.ts'
import type { Link, Sender } from './link.ts'
import { ReceivePath } from './receive-path.ts'
import { ReplayBuffer } from './replay-buffer.ts'
import { SendQueue } from './send-queue.ts'
import { Starvation } from './starvation.ts'
import { type Holder, smallWindowBytes, type WindowBudget } from './window-budget.ts'

/** What a flow needs of those who keep it. */
export interface FlowOwner {
  readonly budget: WindowBudget
  /** The flow has sent so much that it disturbs others on a shared link. */
  onLong(flow: LinkFlow): void
  /** The flow is over; its number may be used again. */
  onDone(flow: LinkFlow): void
  /** After a lost link both directions go on. */
  onResumed(flow: LinkFlow): void
}

/** How a flow begins. */
export interface FlowStart {
  readonly id: number
  readonly link: Link
  /** Both ends can go on over another link after a lost one. */
  readonly canResume?: boolean
}

/** What both ends may send before any credit is given; enough for most requests and answers. */
export const firstCreditBytes = 64 * 1024

/** A flow that has not received this much needs no credit yet. */
const shortBytes = 16 * 1024

/** What has arrived is told at least after this much, so that the sender may let go of it. */
const acknowledgeBytes = 128 * 1024

/** After this much a flow moves to a bulk link. */
const longBytes = 4 * 1024 * 1024
/** What a writer may have given before it has to wait. */
const writableBytes = 128 * 1024
const maxReasonBytes = 1024

/**
 * One byte stream over the links to a peer. `end()` closes only our direction; `destroy()` before both directions are
 * done resets it with a reason. Each direction has its own credit and may move to another link, in the middle of the
 * stream, without a byte out of order. After a lost link it can go on over another one: each end says how much has
 * arrived, and the other one sends the rest again.
 */
export class LinkFlow extends Duplex implements Sender, Holder, Lender, BufferReturner {
  readonly id: number
  readonly returnsBuffers = true
  readonly #owner: FlowOwner
  #link: Link
  /** The link to move to once something was sent since the last move, and the offset of that. */
  #next: Link | undefined
  #movedAt: number | undefined
  #creditLimit = firstCreditBytes
  readonly #queue: SendQueue
  #finished: (() => void) | undefined
  /** Sent and perhaps not arrived; absent between ends that do not resume. */
  readonly #replay: ReplayBuffer | undefined
  #hasSentEnd = false
  #isEndDue = false
  /** A link was lost, and the far end has not said yet how much has arrived. */
  #isHalted = false
  #sendEpoch = 0
  #acknowledged = 0
  readonly #path: ReceivePath
  #received = 0
  #window: number
  #granted = firstCreditBytes
  readonly #starvation = new Starvation()
  #held = 0
  /** Gets the bytes as they arrive; what comes before it is there waits as in any stream. */
  #borrower: Borrower | undefined
  #isRemoteDone = false
  /** The far end knows that the flow is over, or can no longer be told. */
  #isSilent = false

  constructor(start: FlowStart, owner: FlowOwner) {
    super({ allowHalfOpen: true, writableHighWaterMark: writableBytes })
    this.id = start.id
    this.#owner = owner
    this.#link = start.link
    this.#link.flows += 1
    this.#path = new ReceivePath(start.link)
    this.#replay = start.canResume ? new ReplayBuffer(owner.budget) : undefined
    this.#queue = new SendQueue(start.id, this.#replay)
    this.#window = owner.budget.enter(this)
    // A flow may fail while it has no owner, between its opening and its use; that must not end the process.
    this.on('error', () => {})
  }

  get heldBytes(): number {
    return this.#held
  }

  get sentBytes(): number {
    return this.#queue.sent
  }

  get receivedBytes(): number {
    return this.#received
  }

  /** The link that it sends on. */
  get link(): Link {
    return this.#link
  }

  /** It is over here, but perhaps not everything has arrived there. */
  get isUnconfirmed(): boolean {
    return this.#replay !== undefined && this.#hasSentEnd && !this.#isSilent
  }

  /** A link was lost, and not both directions go on yet. */
  get isInterrupted(): boolean {
    return this.#isHalted || this.#path.isWaiting
  }

  uses(link: Link): boolean {
    return this.#link === link || this.#path.uses(link)
  }

  /** Sends everything from here on over another link. */
  moveTo(link: Link): void {
    if (this.#link === link || this.destroyed || this.#isHalted) return
    // Nothing comes after the end, and a MOVE could overtake it.
    if (this.#hasSentEnd && !this.#isEndDue) return
    const { offset } = this.#queue
    // Moves may overtake each other on their links, and only their offsets tell which one was the first.
    this.#next = offset === this.#movedAt ? link : undefined
    if (this.#next !== undefined) return
    this.#movedAt = offset
    this.#switchTo(link)
    link.control(frameType.move, this.id, encodeOffset(offset, this.#replay && this.#sendEpoch))
    // What was told on the link before may be lost with it.
    if (this.#granted > firstCreditBytes) this.#grant()
    link.ready(this)
  }

  fill(batch: FrameBatch, quantumBytes: number): boolean {
    if (this.#isHalted) return false
    const link = this.#link
    const room = this.#queue.fill(batch, quantumBytes, this.#creditLimit)
    if (this.#queue.hasRepeats) return true
    this.#fillEnd(batch)
    if (this.#next?.isOpen) this.moveTo(this.#next)
    else if (this.sentBytes >= longBytes && link.kind === 'shared') this.#owner.onLong(this)
    const hasMoved = this.#link !== link
    return !hasMoved && room < quantumBytes && this.#canSend
  }

  /** Nothing is sent until the far end has said how much has arrived. */
  halt(): void {
    this.#isHalted = true
    this.#link.forget(this)
  }

  /** Asks the far end to send the rest on this link, and to say how much has arrived there. */
  resumeOn(link: Link): void {
    if (this.destroyed) return
    this.halt()
    this.#switchTo(link)
    link.control(frameType.resume, this.id, encodeOffset(this.#received, this.#path.restart(link)))
    if (this.#granted > firstCreditBytes) this.#grant()
  }

  /** The far end asks for the rest from an offset, on this link; throws a `LinkProtocolError` where none was lost. */
  onResume(link: Link, offset: number, epoch: number): void {
    if (epoch <= this.#sendEpoch) return
    // The question goes out before the answer, so that the answer to it is no question again.
    if (!this.destroyed && !this.#path.isWaiting) this.resumeOn(link)
    const again = this.#replay?.since(offset)
    if (again === undefined) {
      const reason = 'the flow cannot go on after a lost link: too much was under way'
      link.control(frameType.reset, this.id, Buffer.from(reason))
      this.#isSilent = true
      this.destroy(new Error(reason))
      return
    }
    this.#sendEpoch = epoch
    this.#movedAt = undefined
    this.#next = undefined
    this.#isHalted = false
    this.#switchTo(link)
    this.#queue.repeat(again)
    this.#isEndDue = this.#hasSentEnd
    link.control(frameType.move, this.id, encodeOffset(offset, epoch))
    link.ready(this)
    if (!this.isInterrupted) this.#owner.onResumed(this)
  }

  /** Nobody will ask for what was sent. */
  forgetSent(): void {
    this.#replay?.clear()
    this.#queue.repeat([])
    this.#link.forget(this)
  }

  /** Tells the far end what has arrived, unless it knows; at once, or when it is much. */
  acknowledge(minimumBytes = 1): void {
    if (this.#replay === undefined || this.#received - this.#acknowledged < minimumBytes) return
    if (!this.isInterrupted) this.#grant()
  }

  /** The bytes are gone when it returns. */
  onData(link: Link, bytes: Buffer): void {
    if (this.#path.isStale(link)) return
    this.#starvation.arriving()
    if (this.#received + this.#path.queuedBytes + bytes.length > this.#granted || this.#isRemoteDone) {
      throw new LinkProtocolError(`flow ${this.id} sends more than it has credit for`)
    }
    // Nearly always nothing else is under way, and nothing has to be put in order.
    if (this.#path.isOnly(link)) this.#take(bytes)
    else for (const piece of this.#path.arrive(link, bytes, this.#received)) this.#take(piece)
    this.#account()
  }

  onFin(link: Link): void {
    // It may come again after a lost link.
    if (this.#isRemoteDone || this.#path.isStale(link)) return
    for (const piece of this.#path.arrive(link, null, this.#received)) this.#take(piece)
  }

  onMove(link: Link, offset: number, epoch = 0): void {
    if (epoch !== this.#path.epoch) return
    const wasWaiting = this.#path.isWaiting
    for (const piece of this.#path.move(link, offset, this.#received)) this.#take(piece)
    this.#account()
    if (wasWaiting && !this.isInterrupted) this.#owner.onResumed(this)
  }

  onCredit(limit: number, arrived = 0): void {
    this.#replay?.acknowledge(Math.min(arrived, this.sentBytes))
    if (limit <= this.#creditLimit) return
    this.#creditLimit = limit
    if (this.#canSend) this.#link.ready(this)
  }

  /** The far end has reset the flow. */
  onReset(reason: string): void {
    this.#isSilent = true
    const text = reason === '' ? 'stream reset by the peer' : `stream reset by the peer: ${reason}`
    this.destroy(errorOfPeer(text))
  }

  /** A link that carried some of it is gone. */
  onLost(error: Error): void {
    this.destroy(error)
  }

  overflow(): void {
    this.destroy(new Error('too much waits for slow readers on this node'))
  }

  lendTo(borrower: Borrower): () => void {
    this.#borrower = borrower
    return () => this.#account()
  }

  override read(size?: number): unknown {
    const chunk: unknown = super.read(size)
    this.#account()
    return chunk
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#send([chunk], done)
  }

  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: () => void): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    )
  }

  override _final(done: () => void): void {
    this.#finished = done
    this.#link.ready(this)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const isComplete = this.readableEnded && this.writableFinished
    if (!isComplete && !this.#isSilent) {
      this.#link.control(frameType.reset, this.id, Buffer.from((error?.message ?? '').slice(0, maxReasonBytes)))
    }
    this.#link.flows -= 1
    this.#path.close()
    this.#owner.budget.leave(this, this.#window, this.#held)
    this.#queue.clear()
    if (!isComplete || !this.isUnconfirmed) this.forgetSent()
    this.#owner.onDone(this)
    done(error)
  }

  get #canSend(): boolean {
    return !this.#queue.isEmpty && this.sentBytes < this.#creditLimit
  }

  #send(chunks: Buffer[], done: () => void): void {
    this.#queue.put(chunks, done)
    if (this.#canSend) this.#link.ready(this)
  }

  #fillEnd(batch: FrameBatch): void {
    if (this.#isEndDue) {
      this.#isEndDue = false
      batch.add(frameType.fin, this.id, undefined)
    }
    if (this.#finished === undefined || !this.#queue.isEmpty) return
    batch.add(frameType.fin, this.id, undefined)
    const finished = this.#finished
    this.#finished = undefined
    this.#hasSentEnd = true
    finished()
  }

  #take(piece: Buffer | null): void {
    if (piece === null) this.#isRemoteDone = true
    else this.#received += piece.length
    this.#starvation.arrived(this.#received)
    if (this.destroyed) return
    if (piece === null) this.push(null)
    else if (this.#borrower !== undefined) this.#borrower.onBytes(piece)
    else this.push(Buffer.from(piece))
  }

  /** Counts what waits for the reader, and gives more credit once half of the window is used up. */
  #account(): void {
    if (this.destroyed) return
    const { budget } = this.#owner
    const unread = this.readableLength + (this.#borrower?.heldBytes ?? 0)
    const held = unread + this.#path.queuedBytes
    const change = held - this.#held
    this.#held = held
    if (change !== 0) budget.adjust(change)
    const consumed = this.#received - unread
    if (this.destroyed || this.#isRemoteDone || this.#received < shortBytes) return
    if (this.#granted - consumed > this.#window / 2) {
      this.acknowledge(acknowledgeBytes)
      return
    }
    this.#window = this.#nextWindow(unread)
    if (consumed + this.#window <= this.#granted) return
    this.#starvation.granted(this.#granted)
    this.#granted = consumed + this.#window
    this.#grant()
  }

  /** Tells the limit, and what has arrived. While a link is lost both are told with the question for the rest. */
  #grant(): void {
    this.#acknowledged = this.#received
    this.#link.control(frameType.credit, this.id, encodeOffset(this.#granted, this.#replay && this.#received))
  }

  #switchTo(link: Link): void {
    if (this.#link === link) return
    this.#link.forget(this)
    // A flow that is over uses none.
    if (!this.destroyed) {
      this.#link.flows -= 1
      link.flows += 1
    }
    this.#link = link
  }

  /** The window grows while the sender waits for us and the reader does not. */
  #nextWindow(unread: number): number {
    const { budget } = this.#owner
    const window = budget.shrink(this.#window)
    return this.#starvation.take() && unread < smallWindowBytes ? budget.grow(window) : window
  }
}

/** A reset by the peer. It has no stack: that would show this place, and cost more than all else that a reset does. */
function errorOfPeer(text: string): Error {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const error = Object.assign(new Error(text), { code: 'ECONNRESET' })
  Error.stackTraceLimit = stackTraceLimit
  return error
}
