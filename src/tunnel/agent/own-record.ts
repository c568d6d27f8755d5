import type { Logger } from '../../observability/index.ts'
import type { Identity } from '../identity/identity.ts'
import { type NodeRole, passOn, type SignedRecord, signRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'

/** What the own record is made of. */
export interface OwnRecordOptions {
  readonly name: string
  readonly role: NodeRole
  readonly identity: Identity
  /** Before a rotation. */
  readonly formerIdentity?: Identity | undefined
  readonly book: RecordBook
  readonly logger: Logger
}

/** Our own signed record; a new one is signed at each start and when our addresses change. */
export class OwnRecord {
  readonly #options: OwnRecordOptions
  readonly #listeners = new Set<() => void>()
  #current: SignedRecord

  private constructor(options: OwnRecordOptions, current: SignedRecord) {
    this.#options = options
    this.#current = current
  }

  /** Signs the first record of this run; its sequence is above that of all earlier runs, also with a clock set back. */
  static async create(options: OwnRecordOptions, addresses: readonly string[]): Promise<OwnRecord> {
    const { book, name, identity, formerIdentity, logger } = options
    // Under another name when the node was given a new one.
    const known = (book.recordOf(name) ?? book.recordOf(book.nameOf(identity.peerId) ?? name))?.record
    if (known !== undefined && known.peerId !== identity.peerId && known.peerId !== formerIdentity?.peerId) {
      logger.warn(
        { peer: identity.peerId, reason: `the identity was ${known.peerId} before` },
        'this node has a new identity; peers and servers refuse it until they unpin its name',
      )
      book.unpin(name)
    }
    const first = await signNext(options, addresses, known?.sequence ?? 0)
    return new OwnRecord(options, first)
  }

  get current(): SignedRecord {
    return this.#current
  }

  /** Calls back when there is a new record; disposal ends it. */
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** Signs a new record when the addresses differ from those told last. */
  async update(addresses: readonly string[]): Promise<void> {
    const { record } = this.#current
    if (record.addresses.join() === addresses.join()) return
    this.#current = await signNext(this.#options, addresses, record.sequence)
    this.#options.logger.info({ count: addresses.length, address: addresses.join(' ') }, 'own addresses changed')
    for (const listener of this.#listeners) listener()
  }
}

async function signNext(
  { name, role, identity, formerIdentity, book }: OwnRecordOptions,
  addresses: readonly string[],
  lastSequence: number,
): Promise<SignedRecord> {
  const time = Math.max(0, Date.now())
  const sequence = Math.max(lastSequence + 1, time)
  const formerly = formerIdentity && (await passOn(name, identity.peerId, formerIdentity))
  const signed = await signRecord(
    { name, role, peerId: identity.peerId, sequence, addresses, time, ...(formerly && { formerly }) },
    identity.privateKey,
  )
  await book.offer(signed.encoded)
  return signed
}
