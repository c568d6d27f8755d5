import type { Logger, Metrics } from '../../observability/index.ts'
import { type ServedDirectory, serveDirectory } from '../directory/serve-directory.ts'
import type { Host } from '../host/host.ts'
import { serveObservations } from '../punch/observation.ts'
import type { RecordBook } from '../records/record-book.ts'
import { type SpliceServer, serveSplices } from '../relay/splice-server.ts'

/** What relaying needs. */
export interface OwnRelayOptions {
  readonly host: Host
  readonly book: RecordBook
  /** Peers that may be joined to others. */
  readonly mayRelay: (peerId: string) => boolean
  readonly logger: Logger
  readonly metrics: Metrics
}

/** What this agent is for others while `relayNodes` names it: a relay and a directory on its own port, as a server is. */
export class OwnRelay implements AsyncDisposable {
  readonly #options: OwnRelayOptions
  #directory: ServedDirectory | undefined
  #splices: SpliceServer | undefined
  #observations: Disposable | undefined
  #last: Promise<void> = Promise.resolve()

  constructor(options: OwnRelayOptions) {
    this.#options = options
  }

  /** How many agents use it; undefined while it is off. */
  get connected(): number | undefined {
    return this.#directory?.connected.length
  }

  /** Ends what is joined to the node. */
  cut(peerId: string): void {
    this.#splices?.cut(peerId)
  }

  /** Switches it on or off; agents that used it lose their session with it. */
  async set(isOn: boolean): Promise<void> {
    this.#last = this.#last.then(() => this.#set(isOn))
    await this.#last
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.set(false)
  }

  async #set(isOn: boolean): Promise<void> {
    const { host, logger } = this.#options
    if (isOn === (this.#directory !== undefined)) return
    host.setRelaying(isOn)
    if (isOn) {
      this.#directory = await serveDirectory(this.#options)
      this.#splices = await serveSplices(this.#options)
      this.#observations = serveObservations(host)
      logger.info({ peer: host.peerId }, 'relays for others now')
      return
    }
    const [directory, splices] = [this.#directory, this.#splices]
    this.#directory = undefined
    this.#splices = undefined
    this.#observations?.[Symbol.dispose]()
    await splices?.[Symbol.asyncDispose]()
    await directory?.[Symbol.asyncDispose]()
    logger.info({ peer: host.peerId }, 'no longer relays for others')
  }
}
