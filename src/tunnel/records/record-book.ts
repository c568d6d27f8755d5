import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { type Counter, describeError, type Logger, type Metrics } from '../../observability/index.ts'
import { readFileIfExists, writeFileAtomically } from '../../runtime/index.ts'
import { Admission, type AdmissionRefusal, type AdmissionRules, openAdmission } from './admission.ts'
import { type NameRecord, openRecord, type SignedRecord } from './name-record.ts'

/** What became of a record that was offered. */
export type Acceptance =
  /** First of its name, or newer than the one known. */
  | 'accepted'
  /** The one already known. */
  | 'known'
  /** Older than the one known: a replay, or late. */
  | 'stale'
  /** The name belongs to another identity. */
  | 'conflict'
  /** The node is shut out, or its name is unknown where only known ones are taken. */
  | 'refused'

/** Who a book tells of changes. */
export type RecordListener = (record: NameRecord) => void

interface Entry {
  signed: SignedRecord
  /** By our clock, in milliseconds. */
  lastSeen: number
}

const stateSchema = z.strictObject({
  version: z.literal(1),
  /** Name to peer ID; outlives the record. */
  pins: z.record(z.string(), z.string()),
  /** Address as configured to peer ID. */
  servers: z.record(z.string(), z.string()),
  records: z.array(z.strictObject({ encoded: z.string(), lastSeen: z.number() })),
})

/** Addresses of a node that nobody heard of for this long are not tried any more; its identity stays pinned. */
const addressLifetimeMs = 7 * 24 * 3600 * 1000

/** Changes are written together after this long. */
const saveDelayMs = 300

/** A disk that was full or gone may come back. */
const usualRetryMs = 30_000

/** Keeps a member with the key from filling our memory. */
export interface RecordLimits {
  readonly names: number
  /** Of all records as they travel. */
  readonly bytes: number
}

/** More nodes than any mesh has, and what their records take: 600 bytes each. */
const recordLimits: RecordLimits = { names: 20_000, bytes: 16 * 1024 * 1024 }

/** Records kept for when the rules change; the oldest make room. */
const maxRefused = 1000

/** What a book needs. */
export interface RecordBookOptions {
  readonly stateDir: string
  readonly logger: Logger
  readonly metrics: Metrics
  readonly now?: () => number
  /** When to write again what could not be written; default 30 s. */
  readonly retryMs?: number
  /** Default: every name that the pre-shared key vouches for. */
  readonly admission?: AdmissionRules
  /** This node itself is always taken. */
  readonly ownPeerId?: string
  readonly limits?: RecordLimits
}

/**
 * The names of the mesh and who they belong to: signed records, of which the newest counts, and bindings of names to
 * identities, made at first contact and kept until unpinned. Kept in `stateDir/peers.json`.
 */
export class RecordBook implements AsyncDisposable {
  readonly #file: string
  readonly #logger: Logger
  readonly #conflicts: Counter
  readonly #now: () => number
  readonly #retryMs: number
  readonly #pins = new Map<string, string>()
  readonly #serverPins = new Map<string, string>()
  readonly #entries = new Map<string, Entry>()
  readonly #names = new Map<string, string>()
  /** Records as they travel: agents that come back say what they said before, and to check it costs the most. */
  readonly #texts = new Map<string, SignedRecord>()
  readonly #loggedConflicts = new Set<string>()
  readonly #listeners = new Set<RecordListener>()
  readonly #ownPeerId: string | undefined
  readonly #limits: RecordLimits
  #bytes = 0
  /** Records that the rules did not take, for when they change. */
  readonly #refused = new Map<string, SignedRecord>()
  #admission: Admission
  #saveTimer: NodeJS.Timeout | undefined
  #saving: Promise<void> = Promise.resolve()
  /** What is known now is not on disk. */
  #isUnsaved = false

  private constructor({ stateDir, logger, metrics, now = Date.now, ownPeerId, ...options }: RecordBookOptions) {
    const { admission = openAdmission, retryMs = usualRetryMs } = options
    this.#retryMs = retryMs
    this.#ownPeerId = ownPeerId
    this.#limits = options.limits ?? recordLimits
    this.#admission = new Admission(admission, this.#pins, ownPeerId)
    this.#file = join(stateDir, 'peers.json')
    this.#logger = logger
    this.#conflicts = metrics.counter('tunnel_name_conflicts_total', 'Records refused because the name is pinned')
    this.#now = now
  }

  /** Reads the stored book; a damaged file is set aside with a warning, because the mesh must work without it. */
  static async open(options: RecordBookOptions): Promise<RecordBook> {
    const book = new RecordBook(options)
    await book.#load()
    book.setAdmission(options.admission ?? openAdmission)
    return book
  }

  get records(): readonly SignedRecord[] {
    return [...this.#entries.values()].map(({ signed }) => signed)
  }

  recordOf(name: string): SignedRecord | undefined {
    return this.#entries.get(name)?.signed
  }

  /** The name whose record the identity has signed. */
  nameOf(peerId: string): string | undefined {
    return this.#names.get(peerId)
  }

  /** Identities that are shut out. */
  get revoked(): ReadonlySet<string> {
    return this.#admission.revoked
  }

  /** True when nobody may be here under this name. */
  isRevokedName(name: string): boolean {
    return this.#admission.isRevokedName(name)
  }

  /** Why this identity may not have that name; undefined when it may. */
  refusalOf(name: string, peerId: string): string | undefined {
    return this.#admission.refusalOf(name, peerId)?.reason
  }

  /** Makes these the rules: records that they do not take are out of sight until others do. */
  setAdmission(rules: AdmissionRules): void {
    for (const [name, peerId] of Object.entries(rules.peers)) {
      if ((this.#pins.get(name) ?? peerId) !== peerId) this.unpin(name)
    }
    this.#admission = new Admission(rules, this.#pins, this.#ownPeerId)
    this.#loggedConflicts.clear()
    for (const { signed } of [...this.#entries.values()]) {
      const { name, peerId } = signed.record
      if (this.#admission.refusalOf(name, peerId) === undefined) continue
      this.#forget(name, peerId)
      this.#setRefused(signed)
    }
    for (const [key, signed] of [...this.#refused]) {
      this.#refused.delete(key)
      this.#accept(signed)
    }
    this.#scheduleSave()
  }

  /** Where a node may be reached directly; empty once nobody has heard of it for a week. */
  addressesOf(name: string): readonly string[] {
    const entry = this.#entries.get(name)
    if (entry === undefined || this.#now() - entry.lastSeen > addressLifetimeMs) return []
    return entry.signed.record.addresses
  }

  /** Notes that the node is there now. */
  touch(name: string): void {
    const entry = this.#entries.get(name)
    if (entry !== undefined) entry.lastSeen = this.#now()
  }

  /** Reads a record and checks that it holds, as `openRecord`; one that is here already was checked before. */
  async open(encoded: string): Promise<SignedRecord> {
    return this.#texts.get(encoded) ?? (await openRecord(encoded))
  }

  /** Checks a record and keeps it when it is newer; rejects with a `NameRecordError` when it does not hold. */
  async offer(encoded: string): Promise<Acceptance> {
    return this.#accept(await this.open(encoded))
  }

  /** Calls back with each record that is accepted; disposal ends it. */
  onAccepted(listener: RecordListener): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** Forgets who a name belongs to, so that the next record of that name binds it anew; false for an unknown name. */
  unpin(name: string): boolean {
    const pinned = this.#pins.get(name)
    if (pinned === undefined) return false
    this.#pins.delete(name)
    this.#forget(name, pinned)
    this.#loggedConflicts.clear()
    this.#scheduleSave()
    return true
  }

  serverPinOf(address: string): string | undefined {
    return this.#serverPins.get(address)
  }

  pinServer(address: string, peerId: string): void {
    this.#serverPins.set(address, peerId)
    this.#scheduleSave()
  }

  /** Forgets the identity of a server, so that the next contact pins it anew. */
  unpinServer(address: string): boolean {
    this.#scheduleSave()
    return this.#serverPins.delete(address)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#saveTimer !== undefined) this.#save()
    await this.#saving
    clearTimeout(this.#saveTimer)
  }

  #accept(signed: SignedRecord): Acceptance {
    const { name, peerId, sequence } = signed.record
    if (this.#isPassedOn(signed.record)) this.unpin(name)
    const refusal = this.#admission.refusalOf(name, peerId)
    if (refusal !== undefined) return this.#refuse(signed, refusal)
    const known = this.#entries.get(name)
    if (known?.signed.record.sequence === sequence) {
      known.lastSeen = this.#now()
      return 'known'
    }
    // An identity has one name: a node that was given another one, and nobody takes several.
    const former = this.#names.get(peerId) ?? name
    if (sequence < (this.#entries.get(former)?.signed.record.sequence ?? 0)) return 'stale'
    if (former !== name) this.unpin(former)
    const lack = this.#lackFor(signed)
    if (lack !== undefined) return this.#refuse(signed, lack)
    this.#insert(signed, this.#now())
    this.#scheduleSave()
    for (const listener of this.#listeners) listener(signed.record)
    return 'accepted'
  }

  /** What there is no room for; undefined when there is. */
  #lackFor({ record: { name, peerId }, encoded }: SignedRecord): AdmissionRefusal | undefined {
    if (peerId === this.#ownPeerId) return undefined
    const remedy = 'find out who makes up names; "edgemesh unpin" forgets one'
    const { names, bytes } = this.#limits
    const isFull = !this.#pins.has(name) && this.#pins.size >= names
    if (isFull) return { kind: 'refused', reason: `${names} names are known already`, remedy }
    const more = encoded.length - (this.#entries.get(name)?.signed.encoded.length ?? 0)
    if (this.#bytes + more <= bytes) return undefined
    return { kind: 'refused', reason: `records of other nodes take ${bytes} bytes already`, remedy }
  }

  /** The identity that owns the name has signed that it goes to this one, and may do so. */
  #isPassedOn({ name, peerId, sequence, formerly }: NameRecord): boolean {
    if (formerly === undefined || formerly.peerId === peerId || this.#pins.get(name) !== formerly.peerId) return false
    const { revoked } = this.#admission
    const isAllowed = this.#admission.ownerOf(name) === formerly.peerId && !revoked.has(formerly.peerId)
    const isNewer = sequence > (this.#entries.get(name)?.signed.record.sequence ?? 0)
    if (!isAllowed || !isNewer || revoked.has(peerId) || this.isRevokedName(name)) return false
    this.#logger.info(
      { peer: peerId, node: name, reason: `${formerly.peerId} has passed the name on` },
      'identity rotated',
    )
    return true
  }

  #insert(signed: SignedRecord, lastSeen: number): void {
    const { name, peerId } = signed.record
    this.#pins.set(name, peerId)
    this.#names.set(peerId, name)
    this.#forgetText(name)
    this.#texts.set(signed.encoded, signed)
    this.#bytes += signed.encoded.length
    this.#entries.set(name, { signed, lastSeen })
  }

  #refuse(signed: SignedRecord, { kind, reason, remedy }: AdmissionRefusal): Acceptance {
    const { name, peerId } = signed.record
    if (kind === 'conflict') this.#conflicts.add()
    this.#setRefused(signed)
    const key = `${name}/${peerId}`
    if (this.#loggedConflicts.has(key) || this.#loggedConflicts.size > 1000) return kind
    this.#loggedConflicts.add(key)
    const cause = kind === 'conflict' ? ': the name belongs to another identity' : ''
    this.#logger.error({ peer: peerId, reason, remedy }, `name record refused${cause}`)
    return kind
  }

  #setRefused(signed: SignedRecord): void {
    const { name, peerId, sequence } = signed.record
    const key = `${name}/${peerId}`
    if ((this.#refused.get(key)?.record.sequence ?? 0) > sequence) return
    this.#refused.delete(key)
    this.#refused.set(key, signed)
    const [oldest] = this.#refused.keys()
    if (this.#refused.size > maxRefused && oldest !== undefined) this.#refused.delete(oldest)
  }

  #forgetText(name: string): void {
    const entry = this.#entries.get(name)
    if (entry === undefined) return
    this.#texts.delete(entry.signed.encoded)
    this.#bytes -= entry.signed.encoded.length
  }

  #forget(name: string, peerId: string): void {
    this.#forgetText(name)
    this.#entries.delete(name)
    if (this.#names.get(peerId) === name) this.#names.delete(peerId)
  }

  async #load(): Promise<void> {
    const text = await this.#read()
    if (text === undefined) return
    try {
      const state = stateSchema.parse(JSON.parse(text))
      for (const [name, peerId] of Object.entries(state.pins)) this.#pins.set(name, peerId)
      for (const [address, peerId] of Object.entries(state.servers)) this.#serverPins.set(address, peerId)
      for (const { encoded, lastSeen } of state.records) this.#insert(await openRecord(encoded), lastSeen)
    } catch (error) {
      await this.#setAside(error)
    }
  }

  async #read(): Promise<string | undefined> {
    try {
      return await readFileIfExists(this.#file)
    } catch (error) {
      this.#logger.warn(
        { file: this.#file, error },
        'stored peers cannot be read; names will be bound anew at first contact',
      )
      return undefined
    }
  }

  async #setAside(error: unknown): Promise<void> {
    const aside = `${this.#file}.damaged`
    const remedy = await rename(this.#file, aside).then(
      () => `the damaged file is kept as ${aside}`,
      (reason: unknown) => `the damaged file stays where it is: ${describeError(reason)}`,
    )
    for (const map of [this.#pins, this.#serverPins, this.#entries, this.#names, this.#texts]) map.clear()
    this.#bytes = 0
    this.#logger.warn(
      { file: this.#file, error, remedy },
      'stored peers are damaged; names will be bound anew at first contact',
    )
  }

  #scheduleSave(afterMs = saveDelayMs): void {
    this.#saveTimer ??= setTimeout(() => this.#save(), afterMs).unref()
  }

  #save(): void {
    clearTimeout(this.#saveTimer)
    this.#saveTimer = undefined
    this.#saving = this.#saving.then(() => this.#write())
  }

  async #write(): Promise<void> {
    const state: z.infer<typeof stateSchema> = {
      version: 1,
      pins: Object.fromEntries(this.#pins),
      servers: Object.fromEntries(this.#serverPins),
      records: [...this.#entries.values()].map(({ signed, lastSeen }) => ({ encoded: signed.encoded, lastSeen })),
    }
    try {
      await writeFileAtomically(this.#file, `${JSON.stringify(state)}\n`)
      if (this.#isUnsaved) this.#logger.info({ file: this.#file }, 'peers are stored again')
      this.#isUnsaved = false
    } catch (error) {
      const reason = describeError(error)
      if (!this.#isUnsaved) this.#logger.warn({ file: this.#file, reason }, 'peers cannot be stored; trying again')
      this.#isUnsaved = true
      this.#scheduleSave(this.#retryMs)
    }
  }
}
