import * as z from 'zod'
import type { ByteStream } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import { maxEncodedRecordLength } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import { type KnownRecords, knownRecordsOf, recordsBeyond } from './known-records.ts'
import { directoryFrameLimitBytes, inPieces, recordsPerFrame } from './messages.ts'

/*
 *  who asks                        neighbour
 *    | -- known: name, sequence ----> |
 *    | <- known: name, sequence ----- |
 *    | -- records that it lacks ----> |   until both have ended
 *    | <- records that we lack ------ |
 */

/** The protocol between agents that no server tells of others. */
export const neighbourProtocol = '/edgemesh/neighbours/1.0.0'

const knownSchema = z.strictObject({ known: z.record(z.string().max(253), z.int().min(0)) })
const recordsSchema = z.strictObject({
  records: z.array(z.string().max(maxEncodedRecordLength)).max(recordsPerFrame),
})

/** What exchanging records with neighbours needs. */
export interface NeighbourOptions {
  readonly host: Pick<Host, 'handle' | 'connections' | 'onConnection'>
  readonly book: RecordBook
  readonly tasks: TaskGroup
  /** True while a server tells of other nodes: then neighbours are neither asked nor believed. */
  hasServer(): boolean
  readonly logger: Logger
}

const exchangeTimeoutMs = 10_000
const repeatMs = 30_000
const maxStreams = 4

/**
 * Without a server, agents that are connected directly hand each other the signed records that they have, so that a LAN
 * that is cut off stays whole: when connections come up, when the own record changes, and twice a minute.
 */
export class Neighbours {
  readonly #options: NeighbourOptions

  constructor(options: NeighbourOptions) {
    this.#options = options
  }

  /** Answers neighbours and asks them until the tasks end. */
  async serve(): Promise<void> {
    const { host, tasks, logger } = this.#options
    await host.handle({
      protocol: neighbourProtocol,
      maxStreams,
      onStream: (stream, from) => {
        if (!isDirect(from)) stream.destroy()
        else tasks.run('neighbour asks', (signal) => this.#exchange(stream, from, signal))
      },
    })
    const subscription = host.onConnection((event, connection) => event === 'open' && this.#ask(connection))
    tasks.signal.addEventListener('abort', () => subscription[Symbol.dispose](), { once: true })
    tasks.run('neighbours', async (signal) => {
      for (;;) {
        await sleep(repeatMs, signal)
        this.askAll()
      }
    })
    logger.debug({}, 'records are exchanged with neighbours while there is no server')
  }

  /** Asks all neighbours now, unless a server does better. */
  askAll(): void {
    for (const connection of this.#options.host.connections()) this.#ask(connection)
  }

  #ask(connection: PeerConnection): void {
    const { tasks, logger, hasServer } = this.#options
    if (!isDirect(connection) || hasServer() || tasks.signal.aborted) return
    tasks.run('records of a neighbour', async (signal) => {
      using limit = new TimeLimit(exchangeTimeoutMs, signal)
      try {
        await this.#exchange(await connection.openStream(neighbourProtocol, limit.signal), connection, signal)
      } catch (error) {
        // A server, or a node that does not speak this.
        logger.debug({ peer: connection.peerId, error: describeError(error) }, 'no records of a neighbour')
      }
    })
  }

  /** The same on both ends. */
  async #exchange(stream: ByteStream, { peerId }: PeerConnection, stopping: AbortSignal): Promise<void> {
    using limit = new TimeLimit(exchangeTimeoutMs, stopping)
    const { book, logger } = this.#options
    try {
      await writeFrame(stream, { known: knownRecordsOf(book) }, limit.signal)
      const { known } = knownSchema.parse(await readFrame(stream, directoryFrameLimitBytes, limit.signal))
      await Promise.all([this.#send(stream, known, limit.signal), this.#take(stream, limit.signal)])
    } catch (error) {
      stopping.throwIfAborted()
      logger.debug({ peer: peerId, error: describeError(error) }, 'records not exchanged')
    } finally {
      stream.destroy()
    }
  }

  async #send(stream: ByteStream, known: KnownRecords, signal: AbortSignal): Promise<void> {
    for (const piece of inPieces(recordsBeyond(this.#options.book, known), recordsPerFrame)) {
      await writeFrame(stream, { records: piece.map(({ encoded }) => encoded) }, signal)
    }
    stream.end()
  }

  async #take(stream: ByteStream, signal: AbortSignal): Promise<void> {
    for (;;) {
      const frame = await readFrame(stream, directoryFrameLimitBytes, signal)
      if (frame === undefined) return
      const { records } = recordsSchema.parse(frame)
      for (const encoded of this.#options.hasServer() ? [] : records) await this.#options.book.offer(encoded)
    }
  }
}
