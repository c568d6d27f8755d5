import type { Logger } from '../../observability/index.ts'
import { type Carrier, flowProtocol } from '../flows/carrier.ts'
import { createStreamCarrier } from '../flows/stream-carrier.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { PathNames } from './path-names.ts'
import type { Strangers } from './strangers.ts'

/** What carrying flows over libp2p streams needs. */
export interface StreamCarriersOptions {
  readonly strangers?: Strangers | undefined
  readonly logger: Logger
  readonly names: Pick<PathNames, 'ofConnection'>
  /** Told of each flow that is asked for on a stream, where it stays. */
  onStream?(to: 'edgemesh' | 'go'): void
}

/** Carriers that open a libp2p stream for each flow, in the words of whoever is at the other end. */
export class StreamCarriers {
  readonly #options: StreamCarriersOptions
  readonly #connections = new WeakMap<Carrier, PeerConnection>()

  constructor(options: StreamCarriersOptions) {
    this.#options = options
  }

  of(connection: PeerConnection): Carrier {
    const { strangers, names, onStream, logger } = this.#options
    const protocols = strangers === undefined ? flowProtocol : [flowProtocol, strangers.protocol]
    const { peerId } = connection
    const carrier = createStreamCarrier({ peerId, path: names.ofConnection(connection) }, async (signal) => {
      const stream = await connection.openStream(protocols, signal)
      const isStranger = strangers !== undefined && stream.protocol === strangers.protocol
      onStream?.(isStranger ? 'go' : 'edgemesh')
      if (!isStranger) {
        logger.debug(
          { peer: peerId, path: names.ofConnection(connection) },
          'a flow begins on a stream: there is no link',
        )
        return { stream }
      }
      strangers.noteSpoken(peerId)
      return { stream, messages: strangers.messages }
    })
    this.#connections.set(carrier, connection)
    return carrier
  }

  /** What it opens streams on; undefined for one that was not made here. */
  connectionOf(carrier: Carrier): PeerConnection | undefined {
    return this.#connections.get(carrier)
  }

  /** The second one opens streams where the first one does. */
  isAlso(other: Carrier, carrier: Carrier): void {
    const connection = this.#connections.get(carrier)
    if (connection !== undefined) this.#connections.set(other, connection)
  }
}
