import { ignoreError } from '../../net/index.ts'
import type { TunnelConfig } from '../config.ts'
import { type RelayOptions, type ServedRelay, serveRelay, spliceLimitsOf } from '../relay/serve-relay.ts'

/** What this agent is for others while `relayNodes` names it: a relay and a directory on its own port, as a server is. */
export class OwnRelay implements AsyncDisposable {
  readonly #options: RelayOptions
  #relay: ServedRelay | undefined
  #last: Promise<void> = Promise.resolve()

  constructor(options: RelayOptions) {
    this.#options = options
  }

  /** How many agents use it; undefined while it is off. */
  get connected(): number | undefined {
    return this.#relay?.directory.connected.length
  }

  /** Takes these limits from now on. */
  setLimits(relay: TunnelConfig['relay']): void {
    this.#options.splices.setLimits(spliceLimitsOf(relay))
  }

  /** Ends what is joined to these nodes, and joins nothing to them from now on. */
  shutOut(peerIds: ReadonlySet<string>): void {
    this.#options.splices.shutOut(peerIds)
  }

  /** Switches it on or off; agents that used it lose their session with it. */
  async set(isOn: boolean): Promise<void> {
    const done = this.#last.then(() => this.#set(isOn))
    // One that fails is no reason for the next one to fail.
    this.#last = done.catch(ignoreError)
    await done
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.set(false)
  }

  async #set(isOn: boolean): Promise<void> {
    const { host, logger } = this.#options
    if (isOn === (this.#relay !== undefined)) return
    if (isOn) {
      this.#relay = await serveRelay(this.#options)
      host.setRelaying(true)
      logger.info({ peer: host.peerId }, 'relays for others now')
      return
    }
    host.setRelaying(false)
    const relay = this.#relay
    this.#relay = undefined
    await relay?.[Symbol.asyncDispose]()
    logger.info({ peer: host.peerId }, 'no longer relays for others')
  }
}
