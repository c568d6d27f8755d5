import type { TaskGroup } from '../../runtime/index.ts'
import type { ServerAddress } from '../host/server-address.ts'
import { ServerLink, type ServerLinkOptions } from './server-link.ts'

/** What all links share. */
export interface ServerLinksOptions extends Omit<ServerLinkOptions, 'address' | 'standing' | 'onLost'> {
  readonly tasks: TaskGroup
  /** Holds the links in the order of the configuration; kept up to date for those who read it. */
  readonly links: ServerLink[]
}

interface RunningLink {
  readonly link: ServerLink
  readonly stop: AbortController
  readonly ended: Promise<void>
}

/** Keeps a link to each configured server. */
export class ServerLinks {
  readonly #options: ServerLinksOptions
  readonly #standing = new Map<string, ServerLink>()
  #running: ReadonlyMap<string, RunningLink> = new Map()
  #last: Promise<void> = Promise.resolve()

  constructor(options: ServerLinksOptions) {
    this.#options = options
  }

  /**
   * Makes these the servers: links to others end, new ones begin, and those that stay are left alone. Resolves when
   * the ended ones have ended.
   */
  async set(addresses: readonly ServerAddress[]): Promise<void> {
    const wanted = new Map(addresses.map((address) => [keyOf(address), address]))
    this.#last = this.#last.then(() => this.#set(wanted))
    await this.#last
  }

  /** Ends the pauses before the next attempts: the network of this node has changed. */
  retryAll(): void {
    for (const { link } of this.#running.values()) link.retry()
  }

  async #set(wanted: ReadonlyMap<string, ServerAddress>): Promise<void> {
    const gone = [...this.#running].filter(([key]) => !wanted.has(key)).map(([, running]) => running)
    const kept = [...this.#running].filter(([key]) => wanted.has(key))
    this.#show(kept.map(([, { link }]) => link))
    for (const { stop } of gone) stop.abort(new Error('the server is no longer configured'))
    // Before others begin: a server that is now named in another way has one link at a time.
    await Promise.all(gone.map(({ ended }) => ended))
    const running = new Map(kept)
    for (const [key, address] of wanted) {
      const standing = running.get(key)
      if (standing === undefined) running.set(key, this.#start(address))
      else if (gone.length > 0) standing.link.retry()
    }
    this.#running = running
    this.#show([...wanted.keys()].flatMap((key) => running.get(key)?.link ?? []))
  }

  #show(links: readonly ServerLink[]): void {
    const { links: shown, onChange } = this.#options
    shown.splice(0, shown.length, ...links)
    onChange()
  }

  #start(address: ServerAddress): RunningLink {
    const { tasks, ...options } = this.#options
    const onLost = () => {
      for (const { link: other } of this.#running.values()) if (other !== link) other.retry()
    }
    const link: ServerLink = new ServerLink({ ...options, address, standing: this.#standing, onLost })
    const stop = new AbortController()
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    tasks.run(`server ${address.text}`, async (signal) => {
      try {
        await link.run(AbortSignal.any([signal, stop.signal]))
      } finally {
        resolve()
      }
    })
    return { link, stop, ended }
  }
}

/** A server that gets another pin is another server. */
function keyOf({ text, peerId }: ServerAddress): string {
  return `${text} ${peerId ?? ''}`
}
