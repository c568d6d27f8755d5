import { type Gateway, keyOf, type ObjectKey, type ObjectReport, type VirtualService } from '../model/index.ts'
import { describeError, type Logger } from '../observability/index.ts'
import { type BackoffPolicy, backoffDelayMs } from '../runtime/index.ts'
import type { ObjectProblem, RouteTable } from './routing/route-table.ts'

/** Writes a report into the status of an object; rejects when it did not. */
export type WriteObjectReport = (
  kind: ReportedKind,
  key: ObjectKey,
  report: ObjectReport,
  signal: AbortSignal,
) => Promise<void>

/** Kinds whose objects are told. */
export type ReportedKind = 'gateways' | 'virtualServices'

/** What an object should say and does not. */
export interface DueReport {
  readonly kind: ReportedKind
  readonly key: ObjectKey
  readonly report: ObjectReport
}

/** What writing reports takes. */
export interface ObjectReportsOptions {
  readonly writeReport: WriteObjectReport
  readonly nowMs: () => number
  readonly logger: Logger
}

const mostMessages = 8
/** What is wrong for a moment only, as between two objects of one change, is not worth a word. */
const settleMs = 3_000
/** Between two reports about one object, so that two gateways of different opinions do not write for ever. */
const pause: BackoffPolicy = { firstMs: 5_000, maxMs: 600_000, jitter: 0.2 }
const fine: ObjectReport = { isInForce: true, message: 'all of it is in force' }

/** The reports that objects lack: about those with problems, and about those that say they have some and have none. */
export function dueReports(
  { gateways, virtualServices }: Pick<RouteTable, 'gateways' | 'virtualServices'>,
  problems: readonly ObjectProblem[],
): DueReport[] {
  const messages = messagesByObject(problems)
  const due = (kind: ReportedKind, name: string) => (object: Gateway | VirtualService) => {
    const key = keyOf(object)
    const report = reportOf(messages.get(`${name} ${key}`))
    const { isInForce, message } = object.reported ?? fine
    const isSaid = isInForce === report.isInForce && (isInForce || message === report.message)
    return isSaid ? [] : [{ kind, key, report }]
  }
  return [
    ...gateways.flatMap(due('gateways', 'Gateway')),
    ...[...virtualServices].flatMap(due('virtualServices', 'VirtualService')),
  ]
}

function messagesByObject(problems: readonly ObjectProblem[]): ReadonlyMap<string, string[]> {
  const messages = new Map<string, string[]>()
  for (const { kind, object, gateway, severity, message } of problems) {
    if (severity !== 'error') continue
    const owner = gateway === undefined ? `${kind} ${object}` : `Gateway ${gateway}`
    const text = gateway === undefined ? message : `${kind} ${object}: ${message}`
    messages.set(owner, [...(messages.get(owner) ?? []), text])
  }
  return messages
}

function reportOf(messages: readonly string[] | undefined): ObjectReport {
  if (messages === undefined) return fine
  const more = messages.length > mostMessages ? `; and ${messages.length - mostMessages} more` : ''
  return { isInForce: false, message: messages.slice(0, mostMessages).join('; ') + more }
}

interface Pending {
  readonly text: string
  readonly sinceMs: number
}

interface Written {
  readonly attempts: number
  readonly notBeforeMs: number
}

/** Brings what objects say about themselves in line with what is the case, without haste. */
export class ObjectReports {
  readonly #options: ObjectReportsOptions
  #pending = new Map<string, Pending>()
  readonly #written = new Map<string, Written>()
  #problem: string | undefined

  constructor(options: ObjectReportsOptions) {
    this.#options = options
  }

  /** Why nothing was written when it was tried last; undefined when it was. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Writes the reports that are due by now; true while some wait. Rejects with the signal's reason only. */
  async write(
    table: Pick<RouteTable, 'gateways' | 'virtualServices'>,
    problems: readonly ObjectProblem[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const due = dueReports(table, problems)
    const before = this.#pending
    this.#pending = new Map()
    for (const item of due) {
      const id = `${item.kind} ${item.key}`
      const known = before.get(id)
      const text = item.report.message
      const pending = known?.text === text ? known : { text, sinceMs: this.#options.nowMs() }
      this.#pending.set(id, pending)
      if (this.#isDue(id, pending)) await this.#writeOne(id, item, signal)
    }
    return due.length > 0
  }

  #isDue(id: string, { sinceMs }: Pending): boolean {
    const now = this.#options.nowMs()
    return now - sinceMs >= settleMs && now >= (this.#written.get(id)?.notBeforeMs ?? 0)
  }

  async #writeOne(id: string, { kind, key, report }: DueReport, signal: AbortSignal): Promise<void> {
    const { writeReport, nowMs } = this.#options
    const last = this.#written.get(id)
    const isLongAgo = last !== undefined && nowMs() - last.notBeforeMs > pause.maxMs
    const attempts = last === undefined || isLongAgo ? 1 : last.attempts + 1
    this.#written.set(id, { attempts, notBeforeMs: nowMs() + backoffDelayMs(pause, attempts, Math.random) })
    try {
      await writeReport(kind, key, report, signal)
      this.#problem = undefined
    } catch (error) {
      signal.throwIfAborted()
      this.#tell(describeError(error))
    }
  }

  /** Objects that cannot be told are told in the log and in status all the same, so once is enough. */
  #tell(reason: string): void {
    const before = this.#problem
    this.#problem = reason
    const kindOf = (text: string) => text.replace(/\S*\/namespaces\/\S+/, '')
    if (before !== undefined && kindOf(before) === kindOf(reason)) return
    this.#options.logger.info({ reason }, 'what is wrong with an object was not written into its status')
  }
}
