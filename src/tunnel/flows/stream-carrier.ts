import { type ByteStream, resetStream } from '../../net/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { Carrier } from './carrier.ts'
import type { IncomingFlow } from './incoming-flow.ts'
import { type OpenMessages, type OpenRequest, openMessages, type StreamDatagrams } from './open-message.ts'
import { renewDatagrams } from './renewed-datagrams.ts'
import { datagramsOver } from './stream-datagrams.ts'

/** A connection that does not open a stream within this time is taken for dead, and another one is tried. */
const streamTimeoutMs = 3000

/** A stream that is open, and how targets are asked for on it. */
export interface OpenedStream {
  readonly stream: ByteStream
  /** Default: our own messages. */
  readonly messages?: OpenMessages
}

const ownDatagrams: StreamDatagrams = { over: datagramsOver }

/** A carrier with one stream for each flow. */
export function createStreamCarrier(
  place: Pick<Carrier, 'peerId' | 'path'>,
  openStream: (signal: AbortSignal) => Promise<OpenedStream>,
): Carrier {
  const open = async (request: OpenRequest, signal: AbortSignal) => {
    const { stream, messages = openMessages } = await withinLimit(openStream, signal)
    try {
      await messages.request(stream, request, signal)
    } catch (error) {
      resetStream(stream, new Error('flow not opened', { cause: error }))
      throw error
    }
    return { stream, datagrams: messages.datagrams ?? ownDatagrams }
  }
  return {
    ...place,
    open: async (request, signal) => (await open(request, signal)).stream,
    async openDatagrams(request, signal) {
      const { stream, datagrams } = await open(request, signal)
      const { over, idleMs } = datagrams
      if (idleMs === undefined) return over(stream)
      const again = async (limit: AbortSignal) => over((await open(request, limit)).stream)
      return renewDatagrams(over(stream), { open: again, idleMs })
    },
  }
}

/** Reads what a peer asks for on a stream of its own; undefined when it went away before it asked. */
export async function incomingFlowOf(
  stream: ByteStream,
  messages: OpenMessages,
  signal: AbortSignal,
): Promise<IncomingFlow | undefined> {
  const request = await messages.read(stream, signal)
  if (request === undefined) {
    stream.destroy()
    return undefined
  }
  const gone = new AbortController()
  const onClose = () => gone.abort(new Error('the dialler went away'))
  stream.once('close', onClose)
  const accept = async (answering: AbortSignal) => {
    gone.signal.throwIfAborted()
    stream.off('close', onClose)
    await messages.answerOk(stream, request, answering)
    return stream
  }
  return {
    request,
    gone: gone.signal,
    accept,
    acceptDatagrams: async (answering) => (messages.datagrams ?? ownDatagrams).over(await accept(answering)),
    async refuse(error, answering) {
      if (stream.destroyed) return
      await messages.answerError(stream, error, answering)
      await drained(stream, answering)
    },
    abandon: (error) => resetStream(stream, error),
  }
}

async function withinLimit(
  openStream: (signal: AbortSignal) => Promise<OpenedStream>,
  signal: AbortSignal,
): Promise<OpenedStream> {
  using limit = new TimeLimit(streamTimeoutMs, signal)
  return await openStream(limit.signal)
}

/** Lets the dialler read the answer and close before our side of the stream goes. */
async function drained(stream: ByteStream, signal: AbortSignal): Promise<void> {
  stream.resume()
  const { promise, resolve } = Promise.withResolvers<void>()
  stream.once('close', resolve)
  stream.on('error', () => resolve())
  signal.addEventListener('abort', () => resolve(), { once: true })
  await promise
  stream.destroy()
}
