import type { ByteStream, DatagramChannel, DialError } from '../../net/index.ts'
import type { IncomingFlow } from '../flows/incoming-flow.ts'
import { encodeError, type OpenRequest } from '../flows/open-message.ts'
import { frameType } from './frame.ts'
import type { Link } from './link.ts'

/** What a flow that a peer asks for needs of those who keep it. */
export interface IncomingOwner {
  /** It is answered, or nobody wants the answer. */
  leave(id: number): void
  beginStream(id: number, link: Link): ByteStream
  beginDatagrams(id: number, link: Link): DatagramChannel
}

const maxReasonBytes = 1024

/** A flow that a peer asks for on a link, until it is answered. */
export class IncomingOpen implements IncomingFlow {
  readonly link: Link
  readonly request: OpenRequest
  readonly #id: number
  readonly #owner: IncomingOwner
  readonly #gone = new AbortController()
  #isOver = false

  constructor(id: number, link: Link, request: OpenRequest, owner: IncomingOwner) {
    this.#id = id
    this.link = link
    this.request = request
    this.#owner = owner
    link.flows += 1
  }

  get gone(): AbortSignal {
    return this.#gone.signal
  }

  async accept(): Promise<ByteStream> {
    this.#answer()
    const stream = this.#owner.beginStream(this.#id, this.link)
    this.link.control(frameType.ok, this.#id)
    return stream
  }

  async acceptDatagrams(): Promise<DatagramChannel> {
    this.#answer()
    const channel = this.#owner.beginDatagrams(this.#id, this.link)
    this.link.control(frameType.ok, this.#id)
    return channel
  }

  async refuse(error: DialError): Promise<void> {
    this.#answer()
    this.link.control(frameType.error, this.#id, encodeError(error))
  }

  abandon(error: Error): void {
    if (this.#isOver) return
    this.#leave()
    this.link.control(frameType.reset, this.#id, Buffer.from(error.message.slice(0, maxReasonBytes)))
  }

  /** Nobody waits for the answer any more. */
  lose(reason: Error): void {
    if (this.#isOver) return
    this.#leave()
    this.#gone.abort(reason)
  }

  #answer(): void {
    this.#gone.signal.throwIfAborted()
    this.#leave()
  }

  #leave(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.link.flows -= 1
    this.#owner.leave(this.#id)
  }
}
