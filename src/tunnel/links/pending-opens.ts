import { DialError } from '../../net/index.ts'
import { type OpenRequest, targetTextOf } from '../flows/open-message.ts'
import { frameType } from './frame.ts'
import type { Link } from './link.ts'
import type { LinkDatagrams } from './link-datagrams.ts'
import type { LinkFlow } from './link-flow.ts'

/** The far end answers in less, also when it has to wait for its target. */
const answerTimeoutMs = 10_000

/** A flow that the far end was asked for, until it answers or somebody gives up. */
class PendingOpen {
  readonly id: number
  readonly link: Link
  readonly request: OpenRequest
  readonly sinceMs = performance.now()
  readonly #opens: Map<number, PendingOpen>
  readonly #signal: AbortSignal
  readonly #outcome = Promise.withResolvers<LinkFlow | LinkDatagrams>()

  constructor(id: number, link: Link, request: OpenRequest, opens: Map<number, PendingOpen>, signal: AbortSignal) {
    this.id = id
    this.link = link
    this.request = request
    this.#opens = opens
    this.#signal = signal
    opens.set(id, this)
    link.flows += 1
    signal.addEventListener('abort', this)
  }

  get promise(): Promise<LinkFlow | LinkDatagrams> {
    return this.#outcome.promise
  }

  /** Of the signal: nobody wants the flow any more. */
  handleEvent(): void {
    this.giveUp(this.#signal.reason)
  }

  resolve(flow: LinkFlow | LinkDatagrams): void {
    this.#end()
    this.#outcome.resolve(flow)
  }

  reject(error: unknown): void {
    this.#end()
    this.#outcome.reject(error)
  }

  /** The same, and tells the far end. */
  giveUp(reason: unknown): void {
    this.link.control(frameType.reset, this.id)
    this.reject(reason)
  }

  #end(): void {
    if (!this.#opens.delete(this.id)) return
    this.link.flows -= 1
    this.#signal.removeEventListener('abort', this)
  }
}

/** Flows that peers were asked for and have not answered. */
export class PendingOpens {
  readonly #opens = new Map<number, PendingOpen>()

  get count(): number {
    return this.#opens.size
  }

  has(id: number): boolean {
    return this.#opens.has(id)
  }

  /** Resolves with what `onAnswer` is given; rejects with the error of `fail`, or the signal's reason. */
  wait(id: number, link: Link, request: OpenRequest, signal: AbortSignal): Promise<LinkFlow | LinkDatagrams> {
    return new PendingOpen(id, link, request, this.#opens, signal).promise
  }

  protocolOf(id: number): OpenRequest['protocol'] | undefined {
    return this.#opens.get(id)?.request.protocol
  }

  resolve(id: number, flow: LinkFlow | LinkDatagrams): void {
    this.#opens.get(id)?.resolve(flow)
  }

  reject(id: number, error: unknown): void {
    this.#opens.get(id)?.reject(error)
  }

  isWaitingOn(link: Link): boolean {
    for (const pending of this.#opens.values()) if (pending.link === link) return true
    return false
  }

  /** The link is gone. */
  lose(link: Link, error: Error): void {
    for (const pending of [...this.#opens.values()]) if (pending.link === link) pending.reject(error)
  }

  /** Gives up those that have waited too long. */
  tick(nowMs: number): void {
    for (const pending of [...this.#opens.values()]) {
      // They are in the order of their age.
      if (nowMs - pending.sinceMs < answerTimeoutMs) return
      const { request } = pending
      const place = `${targetTextOf(request)} on ${request.nodeName}`
      pending.giveUp(new DialError('unreachable', `Cannot connect to ${place}: no answer in time`))
    }
  }
}
