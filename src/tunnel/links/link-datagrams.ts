import type { DatagramChannel } from '../../net/index.ts'
import { encodeOffset, frameType } from './frame.ts'
import type { Link } from './link.ts'

/** Largest payload of a UDP datagram. */
const maxDatagramBytes = 65_507

/** What a datagram flow needs of those who keep it. */
export interface DatagramOwner {
  /** The link for datagrams, once there is one. */
  datagramLink(): Link | undefined
  onDone(flow: LinkDatagrams): void
}

/** Datagrams of one client over the links to a peer: on their own link as soon as it stands, so that they queue for nobody. */
export class LinkDatagrams implements DatagramChannel {
  readonly id: number
  readonly closed: Promise<Error | undefined>
  #link: Link
  readonly #owner: DatagramOwner
  readonly #settle: (reason: Error | undefined) => void
  #listener: ((message: Buffer) => void) | undefined
  #isOver = false

  constructor(id: number, link: Link, owner: DatagramOwner) {
    this.id = id
    this.#link = link
    this.#owner = owner
    link.flows += 1
    const { promise, resolve } = Promise.withResolvers<Error | undefined>()
    this.closed = promise
    this.#settle = resolve
  }

  /** The link that it belongs to, and ends with. */
  get link(): Link {
    return this.#link
  }

  uses(link: Link): boolean {
    return this.#link === link
  }

  send(message: Uint8Array): void {
    if (this.#isOver || message.length > maxDatagramBytes) return
    const link = this.#owner.datagramLink() ?? this.#link
    link.datagram(this.id, message)
  }

  onMessage(listener: (message: Buffer) => void): void {
    this.#listener = listener
  }

  onDatagram(message: Buffer): void {
    this.#listener?.(message)
  }

  /** Goes on over another link after the one that it belongs to was lost; what was sent meanwhile is dropped. */
  resumeOn(link: Link): void {
    if (this.#isOver || this.#link === link) return
    this.#adopt(link)
    link.control(frameType.resume, this.id, encodeOffset(0, 0))
  }

  /** The far end goes on over this link. */
  onResume(link: Link): void {
    if (!this.#isOver && this.#link !== link) this.#adopt(link)
  }

  /** What carried it is gone. */
  onLost(error: Error): void {
    this.onOver(error)
  }

  /** The far end has ended it. */
  onOver(reason: Error | undefined): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#link.flows -= 1
    this.#owner.onDone(this)
    this.#settle(reason)
  }

  #adopt(link: Link): void {
    this.#link.flows -= 1
    this.#link = link
    link.flows += 1
  }

  [Symbol.dispose](): void {
    if (this.#isOver) return
    this.#link.control(frameType.fin, this.id)
    this.onOver(undefined)
  }
}
