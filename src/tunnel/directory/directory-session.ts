import type { ByteStream } from '../../net/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { SignedRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import { knownRecordsOf } from './known-records.ts'
import { type AgentMessage, directoryFrameLimitBytes, parseServerMessage, type ServerMessage } from './messages.ts'

/** The server does not take our record. */
export class DirectoryRefusedError extends Error {
  override readonly name = 'DirectoryRefusedError'
  readonly code = 'EDGEMESH_DIRECTORY_REFUSED'
}

/** How the agent's side of the directory is run. */
export interface DirectorySessionOptions {
  readonly stream: ByteStream
  readonly book: RecordBook
  readonly ownRecord: () => SignedRecord
  /** Calls back when the own record has changed; disposal ends it. */
  readonly onOwnRecord: (listener: () => void) => Disposable
  /** Names of the nodes that the server is connected to; kept current while the session lasts. */
  readonly connected: Set<string>
  /** Names of the nodes that the server does not relay for, with the reasons; kept current as well. */
  readonly capped?: Map<string, string>
  /** Told of the nodes that have come. */
  readonly onPresence: (up: readonly string[]) => void
}

/** Exchanges records with a server until the connection or the signal ends it; always rejects. */
export async function runDirectorySession(options: DirectorySessionOptions, signal: AbortSignal): Promise<never> {
  const { stream } = options
  const telling = new OwnRecordTeller(options, signal)
  using _own = options.onOwnRecord(() => telling.tell())
  await telling.greet()
  for (;;) {
    const frame = await readFrame(stream, directoryFrameLimitBytes, signal)
    if (frame === undefined) throw new Error('the server ended the session')
    await take(options, parseServerMessage(frame))
  }
}

/** Says the own record; one that comes while the server does not read waits, and the next one takes its place. */
class OwnRecordTeller {
  readonly #options: DirectorySessionOptions
  readonly #signal: AbortSignal
  #isTold = true
  #isSending = false

  constructor(options: DirectorySessionOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
  }

  /** The first message: what is here already needs no telling. */
  async greet(): Promise<void> {
    const { book, ownRecord } = this.#options
    await this.#send({ type: 'hello', record: ownRecord().encoded, known: knownRecordsOf(book) })
  }

  /** Says the newest record as soon as the server takes it. */
  tell(): void {
    this.#isTold = false
    if (this.#isSending) return
    // Whoever reads from the stream hears that it has failed.
    void this.#send(ownMessage(this.#options.ownRecord())).catch(() => {})
  }

  async #send(first: AgentMessage): Promise<void> {
    const { stream, ownRecord } = this.#options
    this.#isSending = true
    try {
      for (let message = first; ; message = ownMessage(ownRecord())) {
        this.#isTold = true
        await writeFrame(stream, message, this.#signal)
        if (this.#isTold) return
      }
    } finally {
      this.#isSending = false
    }
  }
}

async function take(
  { book, connected, capped, onPresence }: DirectorySessionOptions,
  message: ServerMessage,
): Promise<void> {
  switch (message.type) {
    case 'records':
      for (const encoded of message.records) await book.offer(encoded)
      return
    case 'presence':
      if (message.reset) connected.clear()
      for (const name of message.up) {
        connected.add(name)
        book.touch(name)
      }
      for (const name of message.down) connected.delete(name)
      onPresence(message.up)
      return
    case 'capped':
      capped?.clear()
      for (const [name, reason] of Object.entries(message.nodes)) capped?.set(name, reason)
      onPresence([])
      return
    case 'refused':
      throw new DirectoryRefusedError(message.reason)
    default:
      message satisfies never
  }
}

function ownMessage(record: SignedRecord): AgentMessage {
  return { type: 'record', record: record.encoded }
}
