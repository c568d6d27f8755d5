import type { ByteStream } from '../../net/index.ts'
import { createLoggedTasks, describeError, type Logger } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { Host } from '../host/host.ts'
import {
  type DhtMessage,
  type DhtPeer,
  dhtProtocols,
  dhtTypes,
  readDhtMessage,
  rendezvousKeyOf,
  textOfPeerId,
  writeDhtMessage,
} from './dht-messages.ts'

/** What a relay needs to be a rendezvous. */
export interface ServedRendezvousOptions {
  readonly host: Pick<Host, 'peerId' | 'announced' | 'handle' | 'unhandle'>
  readonly rendezvous: string
  /** Default 4,096; the one that spoke longest ago makes room. */
  readonly maxNodes?: number
  readonly logger: Logger
  /** Time that never jumps; default `performance.now`. */
  readonly nowMs?: () => number
}

/** Nodes tell of themselves again every three hours; one that is silent for a day is gone. */
const validMs = 24 * 3600 * 1000
const defaultMaxNodes = 4096

/** Others ask in a moment or leave; a stream that says nothing for this long ends. */
const idleMs = 60_000

/** A node tells of itself alone; what is longer would only be work. */
const questionLimitBytes = 64 * 1024
const maxStreams = 8

interface Provider extends DhtPeer {
  readonly sinceMs: number
}

/** Lets nodes find each other here as at a relay of the Go system, until disposed. Holds the nodes of one rendezvous only. */
export async function serveRendezvous(options: ServedRendezvousOptions): Promise<AsyncDisposable> {
  const { host, logger } = options
  await using starting = new AsyncDisposableStack()
  const tasks = starting.use(createLoggedTasks(logger))
  const book = new ProviderBook(options)
  for (const protocol of dhtProtocols) {
    await host.handle({
      protocol,
      maxStreams,
      onStream(stream, { peerId }) {
        tasks.run('rendezvous', async (signal) => {
          try {
            await answerAll(stream, signal, (question) => book.answerTo(question, peerId))
            stream.end()
          } catch (error) {
            logger.debug({ peer: peerId, error: describeError(error) }, 'rendezvous ended')
            stream.destroy()
          }
        })
      },
    })
    starting.defer(() => host.unhandle(protocol))
  }
  return starting.move()
}

async function answerAll(
  stream: ByteStream,
  signal: AbortSignal,
  answerTo: (question: DhtMessage) => Partial<DhtMessage> | undefined,
): Promise<void> {
  for (;;) {
    using limit = new TimeLimit(idleMs, signal)
    const question = await readDhtMessage(stream, limit.signal, questionLimitBytes)
    if (question === undefined) return
    const answer = answerTo(question)
    if (answer !== undefined) writeDhtMessage(stream, answer)
    // Who asks and does not read gets no more.
    if (stream.writableNeedDrain) throw new Error('answers are not read')
  }
}

class ProviderBook {
  readonly #options: ServedRendezvousOptions
  readonly #nowMs: () => number
  readonly #key: Buffer
  readonly #providers = new Map<string, Provider>()

  constructor(options: ServedRendezvousOptions) {
    const { nowMs = () => performance.now() } = options
    this.#options = options
    this.#nowMs = nowMs
    this.#key = rendezvousKeyOf(options.rendezvous)
  }

  /** Undefined for what is not answered. */
  answerTo({ type, key, providers }: DhtMessage, from: string): Partial<DhtMessage> | undefined {
    const isOurs = key.equals(this.#key)
    if (type === dhtTypes.ping) return { type }
    if (type === dhtTypes.findNode) return { type, closer: this.#find(textOfPeerId(key)) }
    if (type === dhtTypes.getProviders) return { type, key, providers: isOurs ? this.#all() : [] }
    if (type === dhtTypes.getValue) return { type, key }
    if (type !== dhtTypes.addProvider) throw new Error(`messages of type ${type} are not served`)
    // Nobody tells of others.
    const told = providers.find(({ peerId, addresses }) => peerId === from && addresses.length > 0)
    if (isOurs && told !== undefined) this.#add(told)
    return undefined
  }

  #add(peer: DhtPeer): void {
    const { maxNodes = defaultMaxNodes } = this.#options
    this.#providers.delete(peer.peerId)
    const [oldest] = this.#providers.keys()
    if (this.#providers.size >= maxNodes && oldest !== undefined) this.#providers.delete(oldest)
    this.#providers.set(peer.peerId, { ...peer, sinceMs: this.#nowMs() })
  }

  #find(peerId: string | undefined): readonly DhtPeer[] {
    return peerId === undefined ? [] : this.#all().filter((peer) => peer.peerId === peerId)
  }

  #all(): readonly DhtPeer[] {
    const { host } = this.#options
    const goneMs = this.#nowMs() - validMs
    for (const { peerId, sinceMs } of this.#providers.values()) if (sinceMs < goneMs) this.#providers.delete(peerId)
    const self = { peerId: host.peerId, addresses: host.announced() }
    return [...(self.addresses.length === 0 ? [] : [self]), ...this.#providers.values()]
  }
}
