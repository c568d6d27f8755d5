import type { TcpSocket } from '../../net/index.ts'
import type { Logger } from '../../observability/index.ts'
import { type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { answerOnce, askOnce } from '../frames.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import {
  askAnswerSchema,
  offerSchema,
  spliceAskProtocol,
  spliceFrameLimitBytes,
  spliceMagic,
  spliceOfferProtocol,
} from './splice-messages.ts'

/** What being joined through relays needs. */
export interface SpliceClientOptions {
  readonly host: Host
  readonly tasks: TaskGroup
  /** Takes the socket to a peer that asked to be joined to us. */
  onSocket(socket: TcpSocket, relayPeerId: string): void
  readonly logger: Logger
}

/** The relay does not join the two. */
export class SpliceRefusedError extends Error {
  override readonly name = 'SpliceRefusedError'
  readonly code = 'EDGEMESH_SPLICE_REFUSED'
  /** It never will: the peer takes no part in this. */
  readonly isFinal: boolean

  constructor(message: string, isFinal: boolean) {
    super(message)
    this.isFinal = isFinal
  }
}

const offerTimeoutMs = 5000
const maxOffersPerConnection = 64

/** Answers the offers of relays that this node is connected to. */
export async function acceptSplices({ host, tasks, onSocket, logger }: SpliceClientOptions): Promise<void> {
  await host.handle({
    protocol: spliceOfferProtocol,
    maxStreams: maxOffersPerConnection,
    onStream(stream, relay) {
      tasks.run('splice offer', async (stopping) => {
        using limit = new TimeLimit(offerTimeoutMs, stopping)
        let token = ''
        const take = (offer: unknown) => {
          token = offerSchema.parse(offer).token
          return { ok: true }
        }
        try {
          await answerOnce(stream, take, spliceFrameLimitBytes, limit.signal)
          onSocket(await connectToSplice(host, relay, token, limit.signal), relay.peerId)
        } catch (error) {
          logger.debug({ peer: relay.peerId, error }, 'splice offer not taken')
        }
      })
    },
  })
}

/** Asks a relay to be joined to the peer; resolves with the socket, in which the peer will be found. Rejects with a `SpliceRefusedError` when the relay answers so. */
export async function askForSplice(
  host: Pick<Host, 'dialAgain'>,
  relay: PeerConnection,
  peer: string,
  signal: AbortSignal,
): Promise<TcpSocket> {
  const stream = await relay.openStream(spliceAskProtocol, signal)
  const answer = askAnswerSchema.parse(await askOnce(stream, { peer }, spliceFrameLimitBytes, signal))
  if ('error' in answer) throw new SpliceRefusedError(answer.error, answer.code === 'unsupported')
  return await connectToSplice(host, relay, answer.token, signal)
}

async function connectToSplice(
  host: Pick<Host, 'dialAgain'>,
  relay: PeerConnection,
  token: string,
  signal: AbortSignal,
): Promise<TcpSocket> {
  const socket = await host.dialAgain(relay, signal)
  socket.write(Buffer.concat([Buffer.from(spliceMagic), Buffer.from(token, 'base64url')]))
  return socket
}
