import type { Link } from './link.ts'
import { LinkDatagrams } from './link-datagrams.ts'
import type { LinkFlow } from './link-flow.ts'

/** Flows that are over here, and whose last bytes the far end may still ask for. */
const maxFinished = 64

interface Loss {
  readonly sinceMs: number
  readonly error: Error
  /** The link on which the far end was asked to go on. */
  link: Link | undefined
}

/** Flows whose link was lost: they go on over the next link to the same process, or end with the reason when none comes. */
export class LostFlows {
  readonly #patienceMs: number
  readonly #flows = new Map<LinkFlow | LinkDatagrams, Loss>()
  readonly #finished = new Map<number, { readonly flow: LinkFlow; readonly sinceMs: number }>()

  /** Flows wait this long; 0 when they do not. */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs
  }

  get isOff(): boolean {
    return this.#patienceMs === 0
  }

  get count(): number {
    return this.#flows.size
  }

  /** Neither a flow nor the last bytes of one are waited for. */
  get isEmpty(): boolean {
    return this.#flows.size === 0 && this.#finished.size === 0
  }

  /** Some wait for the far end's answer on this link. */
  waitsOn(link: Link): boolean {
    for (const loss of this.#flows.values()) if (loss.link === link) return true
    return false
  }

  /** The flow waits for the far end's answer on this link, whatever it uses meanwhile. */
  asksOn(flow: LinkFlow | LinkDatagrams, link: Link): boolean {
    return this.#flows.get(flow)?.link === link
  }

  /** Takes a flow that has lost a link, at this time; with another link it asks there at once. */
  add(flow: LinkFlow | LinkDatagrams, error: Error, nowMs: number, next: Link | undefined): void {
    const loss: Loss = { sinceMs: this.#flows.get(flow)?.sinceMs ?? nowMs, error, link: undefined }
    this.#flows.set(flow, loss)
    if (!(flow instanceof LinkDatagrams)) flow.halt()
    if (next !== undefined) this.#resume(flow, loss, next)
  }

  /** A link is there: all that wait for one ask on it. */
  resumeOn(link: Link): void {
    for (const [flow, loss] of [...this.#flows]) if (loss.link?.isOpen !== true) this.#resume(flow, loss, link)
  }

  /** The flow goes on, or is over; tells whether it was lost. */
  leave(flow: LinkFlow | LinkDatagrams): boolean {
    return this.#flows.delete(flow)
  }

  /** Keeps a flow that is over for a far end that has lost its last bytes. */
  keepFinished(flow: LinkFlow, nowMs: number): void {
    if (this.isOff || !flow.isUnconfirmed) return
    this.#finished.set(flow.id, { flow, sinceMs: nowMs })
    if (this.#finished.size > maxFinished) this.#dropOldest()
  }

  finished(id: number): LinkFlow | undefined {
    return this.#finished.get(id)?.flow
  }

  /** Ends those that have waited too long. */
  tick(nowMs: number): void {
    for (const [flow, { sinceMs, error }] of [...this.#flows]) {
      if (nowMs - sinceMs < this.#patienceMs) continue
      this.#flows.delete(flow)
      flow.onLost(error)
    }
    for (const { sinceMs } of [...this.#finished.values()]) if (nowMs - sinceMs >= this.#patienceMs) this.#dropOldest()
  }

  /** Ends all: nobody is there who could go on with them. */
  close(error: Error): void {
    for (const flow of [...this.#flows.keys()]) flow.onLost(error)
    this.#flows.clear()
    while (this.#finished.size > 0) this.#dropOldest()
  }

  #resume(flow: LinkFlow | LinkDatagrams, loss: Loss, link: Link): void {
    loss.link = link
    flow.resumeOn(link)
    if (flow instanceof LinkDatagrams) this.#flows.delete(flow)
  }

  #dropOldest(): void {
    for (const [id, { flow }] of this.#finished) {
      this.#finished.delete(id)
      flow.forgetSent()
      return
    }
  }
}
