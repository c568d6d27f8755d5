import { type ByteStream, type DatagramChannel, DialError, PathLostError } from '../../net/index.ts'
import type { IncomingFlow } from '../flows/incoming-flow.ts'
import { type OpenRequest, parseError, requestMessageOf } from '../flows/open-message.ts'
import { decodeJson, decodeOffsets, frameType, LinkProtocolError } from './frame.ts'
import type { LinkKind } from './hello.ts'
import { IncomingOpen, type IncomingOwner } from './incoming-open.ts'
import type { Link, LinkOwner } from './link.ts'
import { bestLink, datagramLinkOf, type LinkPreference, usableLinks } from './link-choice.ts'
import { type DatagramOwner, LinkDatagrams } from './link-datagrams.ts'
import { type FlowOwner, LinkFlow } from './link-flow.ts'
import { LostFlows } from './lost-flows.ts'
import { OpenRequests } from './open-requests.ts'
import { PendingOpens } from './pending-opens.ts'
import type { WindowBudget } from './window-budget.ts'

/** What the links to one peer need. */
export interface PeerLinksOptions {
  readonly peerId: string
  /** Of the peer's process: another one knows none of our flows. */
  readonly session: string
  /** The end with the lower identity numbers its flows with odd numbers. */
  readonly hasOddFlows: boolean
  readonly budget: WindowBudget
  onIncoming(flow: IncomingFlow, path: string): void
  /** One more link of this kind would be of use. */
  onWant(kind: LinkKind): void
  /** A link is gone; flows may wait for another one. */
  onLost(link: Link, error: Error): void
  /** A flow goes on after a lost link. */
  onResumed(): void
  /** Nobody waits for a link any more, and none stands. */
  onOver(): void
  /** How long flows wait for another link after a lost one; 0 when one of the ends does not resume. */
  readonly resumeMs: number
  /** New flows rather begin elsewhere, because nothing was heard on this one; default: never. */
  isDoubted?(link: Link): boolean
  /** How far the relay of a link is, as a round trip in milliseconds; default: all are alike. */
  distanceOf?(link: Link): number
}

const maxBulkLinks = 4
const lastFlowId = 0xffff_fffe

/** All links to one peer, and the flows on them. */
export class PeerLinks implements LinkOwner, FlowOwner, DatagramOwner {
  readonly peerId: string
  readonly session: string
  readonly links = new Set<Link>()
  readonly budget: WindowBudget
  readonly #options: PeerLinksOptions
  readonly #flows = new Map<number, LinkFlow | LinkDatagrams>()
  readonly #pending = new PendingOpens()
  readonly #requests = new OpenRequests()
  readonly #incoming = new Map<number, IncomingOpen>()
  /** Links that get no new flows, because one of the two ends wants to close them. */
  readonly #retiring = new WeakSet<Link>()
  readonly #isRetiring = (link: Link) => this.#retiring.has(link)
  readonly #preference: LinkPreference<Link>
  /** Those that the peer wants to close: it does not use them any more, so we may. */
  readonly #released = new WeakSet<Link>()
  readonly #handlers: Readonly<Record<number, (link: Link, id: number, payload: Buffer) => void>> = {
    [frameType.open]: (link, id, payload) => this.#onOpen(link, id, payload),
    [frameType.ok]: (link, id) => this.#onOk(link, id),
    [frameType.error]: (_, id, payload) => this.#onError(id, payload),
    [frameType.fin]: (link, id) => this.#onFin(link, id),
    [frameType.reset]: (_, id, payload) => this.#onReset(id, payload.toString('utf8')),
    [frameType.credit]: (_, id, payload) => this.#stream(id)?.onCredit(...decodeOffsets(payload)),
    [frameType.move]: (link, id, payload) => this.#stream(id)?.onMove(link, ...decodeOffsets(payload)),
    [frameType.resume]: (link, id, payload) => this.#onResume(link, id, ...decodeOffsets(payload)),
    [frameType.datagram]: (link, id, payload) => this.#onDatagram(link, id, payload),
  }
  readonly #incomingOwner: IncomingOwner = {
    leave: (id) => void this.#incoming.delete(id),
    beginStream: (id, link) => this.#beginStream(id, link),
    beginDatagrams: (id, link) => {
      const flow = this.#beginDatagrams(id, link)
      if (this.datagramLink() === undefined) this.#options.onWant('datagram')
      return flow
    },
  }
  readonly #lost: LostFlows
  #isClosed = false
  #nextId: number
  #bytesGone = { read: 0, written: 0 }

  constructor(options: PeerLinksOptions) {
    this.#options = options
    this.peerId = options.peerId
    this.session = options.session
    this.budget = options.budget
    this.#preference = {
      isRetiring: this.#isRetiring,
      isDoubted: (link) => options.isDoubted?.(link) ?? false,
      distanceOf: (link) => options.distanceOf?.(link) ?? 0,
    }
    this.#lost = new LostFlows(options.resumeMs)
    this.#nextId = options.hasOddFlows ? 1 : 2
  }

  /** Flows that are open or being opened. */
  get flowCount(): number {
    return this.#flows.size + this.#pending.count + this.#incoming.size
  }

  /** Flows that wait for an answer on this link: a reason to doubt it soon. */
  isWaitingOn(link: Link): boolean {
    return this.#pending.isWaitingOn(link) || this.#lost.waitsOn(link)
  }

  /** No link stands, and nothing waits for one. */
  get isOver(): boolean {
    return this.links.size === 0 && this.#lost.isEmpty
  }

  /** Flows that wait until there is a link to the peer again. */
  get isStranded(): boolean {
    return this.#lost.count > 0 && this.best() === undefined
  }

  /** Bytes over all links so far. */
  get bytes(): { readonly read: number; readonly written: number } {
    let { read, written } = this.#bytesGone
    for (const link of this.links) {
      read += link.bytesRead
      written += link.bytesWritten
    }
    return { read, written }
  }

  add(link: Link): void {
    this.links.add(link)
    // A peer that makes a new one may know that others are dead.
    for (const each of this.links) each.probe()
    if (link.kind !== 'shared') return
    this.#lost.resumeOn(link)
    if (link.isDirect) this.#moveFromRelay(link)
  }

  /** Links of a kind that new flows may use, best first: direct before relayed, then the one with the fewest flows. */
  usable(kind: LinkKind): Link[] {
    return usableLinks(this.links, kind, this.#isRetiring)
  }

  /** The link that the next flow begins on. */
  best(): Link | undefined {
    return bestLink(this.links, this.#preference)
  }

  datagramLink(): Link | undefined {
    return datagramLinkOf(this.links, performance.now())
  }

  /**
   * Asks the far end for a byte stream, on the best link or on this one; rejects with its `DialError`, with a
   * `PathLostError`, or the signal's reason.
   */
  async open(request: OpenRequest, signal: AbortSignal, on?: Link): Promise<ByteStream> {
    const flow = await this.#open(request, signal, on)
    if (flow instanceof LinkFlow) return flow
    throw new Error('not a byte stream')
  }

  /** Asks the far end for datagrams to a target; rejects as `open` does. */
  async openDatagrams(request: OpenRequest, signal: AbortSignal, on?: Link): Promise<DatagramChannel> {
    if (this.datagramLink() === undefined) this.#options.onWant('datagram')
    const flow = await this.#open(request, signal, on)
    if (flow instanceof LinkDatagrams) return flow
    throw new Error('not datagrams')
  }

  /** Uses a link for nothing new; the far end closes it once nothing is left on it. */
  retire(link: Link): void {
    if (this.#retiring.has(link)) return
    this.#retiring.add(link)
    link.control(frameType.fin, 0)
    link.probe()
  }

  /** The peer has retired it, so that nothing can be under way on it once we have no flow there. */
  isReleased(link: Link): boolean {
    return this.#released.has(link)
  }

  /** Ends all links and flows; with an orderly end the peer is told that no flow will go on. */
  close(error: Error, isOrderly = false): void {
    this.#isClosed = true
    for (const link of [...this.links]) {
      if (isOrderly) link.leave(error)
      else link.close(error)
    }
    this.#lost.close(new PathLostError('the link to the peer was lost', { cause: error }))
  }

  /** Ends the flows that wait for a link: none will come, for this reason. */
  giveUp(reason: Error): void {
    this.#lost.close(new PathLostError(`the link to the peer was lost: ${reason.message}`, { cause: reason }))
  }

  /** Once a second: tells what has arrived to ends that may keep it, and gives up flows that have waited too long. */
  tick(nowMs: number): void {
    for (const flow of this.#flows.values()) if (flow instanceof LinkFlow) flow.acknowledge()
    this.#pending.tick(nowMs)
    this.#lost.tick(nowMs)
    if (this.isOver) this.#options.onOver()
  }

  onFrame(link: Link, type: number, id: number, payload: Buffer): void {
    // Types that are not in the table are those of later versions.
    this.#handlers[type]?.(link, id, payload)
  }

  onData(link: Link, id: number, bytes: Buffer): void {
    const flow = this.#flows.get(id)
    // What was under way when the flow was reset.
    if (flow instanceof LinkFlow) flow.onData(link, bytes)
  }

  onClosed(link: Link, error: Error): void {
    this.links.delete(link)
    this.#bytesGone.read += link.bytesRead
    this.#bytesGone.written += link.bytesWritten
    const lost = new PathLostError('the link to the peer was lost', { cause: error })
    this.#pending.lose(link, lost)
    for (const incoming of [...this.#incoming.values()]) if (incoming.link === link) incoming.lose(lost)
    for (const flow of [...this.#flows.values()].filter((each) => each.uses(link) || this.#lost.asksOn(each, link))) {
      if (this.#lost.isOff || this.#isClosed) flow.onLost(lost)
      else this.#lost.add(flow, lost, performance.now(), this.best())
    }
    this.#options.onLost(link, error)
    if (link.kind === 'datagram') this.#wantDatagramLink()
  }

  onLong(flow: LinkFlow): void {
    if (!flow.link.has('move')) return
    const bulk = this.usable('bulk').filter((link) => link.isDirect === flow.link.isDirect)
    const [best] = bulk
    if (bulk.length < maxBulkLinks && (best?.flows ?? 1) > 0) this.#options.onWant('bulk')
    if (best !== undefined) flow.moveTo(best)
  }

  onDone(flow: LinkFlow | LinkDatagrams): void {
    if (this.#flows.get(flow.id) === flow) this.#flows.delete(flow.id)
    this.#lost.leave(flow)
    if (flow instanceof LinkFlow && !this.#isClosed) this.#lost.keepFinished(flow, performance.now())
  }

  onResumed(flow: LinkFlow): void {
    if (this.#lost.leave(flow)) this.#options.onResumed()
  }

  #stream(id: number): LinkFlow | undefined {
    const flow = this.#flows.get(id)
    return flow instanceof LinkFlow ? flow : undefined
  }

  #datagrams(id: number): LinkDatagrams | undefined {
    const flow = this.#flows.get(id)
    return flow instanceof LinkDatagrams ? flow : undefined
  }

  /** A direct path has come up: what is on relayed links goes on there. */
  #moveFromRelay(link: Link): void {
    if (!link.has('move')) return
    for (const flow of this.#flows.values()) {
      if (flow.link.isDirect) continue
      if (flow instanceof LinkFlow) flow.moveTo(link)
      else if (link.has('resume')) flow.resumeOn(link)
    }
    this.#wantDatagramLink()
  }

  /** Datagrams that travel on other links would do better on their own one. */
  #wantDatagramLink(): void {
    if (this.#isClosed || this.datagramLink() !== undefined || this.best() === undefined) return
    if ([...this.#flows.values()].some((flow) => flow instanceof LinkDatagrams)) this.#options.onWant('datagram')
  }

  async #open(request: OpenRequest, signal: AbortSignal, link = this.best()): Promise<LinkFlow | LinkDatagrams> {
    signal.throwIfAborted()
    if (link === undefined || !this.links.has(link)) throw new PathLostError('no link to the peer stands')
    const id = this.#takeId()
    const answer = this.#pending.wait(id, link, request, signal)
    link.control(frameType.open, id, Buffer.from(JSON.stringify(requestMessageOf(request))))
    return await answer
  }

  #takeId(): number {
    for (;;) {
      const id = this.#nextId
      this.#nextId = id + 2 > lastFlowId ? 2 - (id % 2) : id + 2
      if (!this.#flows.has(id) && !this.#pending.has(id)) return id
    }
  }

  #onOpen(link: Link, id: number, payload: Buffer): void {
    const isTheirs = id !== 0 && (id % 2 === 1) !== this.#options.hasOddFlows
    if (!isTheirs || this.#flows.has(id) || this.#incoming.has(id)) {
      throw new LinkProtocolError(`flow ${id} cannot be opened by the peer`)
    }
    const incoming = new IncomingOpen(id, link, this.#requests.read(payload), this.#incomingOwner)
    this.#incoming.set(id, incoming)
    this.#options.onIncoming(incoming, link.path)
  }

  #beginStream(id: number, link: Link): LinkFlow {
    const flow = new LinkFlow({ id, link, canResume: !this.#lost.isOff }, this)
    this.#flows.set(id, flow)
    return flow
  }

  #beginDatagrams(id: number, link: Link): LinkDatagrams {
    const flow = new LinkDatagrams(id, link, this)
    this.#flows.set(id, flow)
    return flow
  }

  #onDatagram(link: Link, id: number, payload: Buffer): void {
    link.lastDatagramMs = link.lastHeardMs
    // A peer that does not use the link for them may know that it is dead.
    if (link.kind !== 'datagram') this.datagramLink()?.probe()
    this.#datagrams(id)?.onDatagram(payload)
  }

  #onOk(link: Link, id: number): void {
    const protocol = this.#pending.protocolOf(id)
    if (protocol === undefined) return
    this.#pending.resolve(id, protocol === 'udp' ? this.#beginDatagrams(id, link) : this.#beginStream(id, link))
  }

  #onError(id: number, payload: Buffer): void {
    if (this.#pending.has(id)) this.#pending.reject(id, parseError(decodeJson(payload)))
  }

  #onFin(link: Link, id: number): void {
    if (id === 0) {
      this.#retiring.add(link)
      this.#released.add(link)
      return
    }
    const flow = this.#flows.get(id)
    if (flow instanceof LinkFlow) flow.onFin(link)
    else flow?.onOver(undefined)
  }

  #onResume(link: Link, id: number, received: number, epoch = 0): void {
    const flow = this.#flows.get(id) ?? this.#lost.finished(id)
    if (flow instanceof LinkFlow) flow.onResume(link, received, epoch)
    else if (flow !== undefined) flow.onResume(link)
    else link.control(frameType.reset, id, Buffer.from('it is over here since the link was lost'))
  }

  #onReset(id: number, reason: string): void {
    if (id === 0) {
      this.close(new Error(reason))
      return
    }
    const flow = this.#flows.get(id)
    if (flow instanceof LinkFlow) flow.onReset(reason)
    else flow?.onOver(new Error(reason))
    this.#incoming.get(id)?.lose(new Error('the dialler went away'))
    if (this.#pending.has(id)) this.#pending.reject(id, new DialError('unreachable', reason))
  }
}
