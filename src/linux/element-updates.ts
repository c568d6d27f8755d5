import { getSystemErrorName } from 'node:util'
import type { Logger } from '../observability/index.ts'
import { RulesetRejectedError } from './errors.ts'
import type { NativeFunctions } from './native-functions.ts'
import { type BatchAnswer, encodeBatch, readAnswers } from './netfilter-batch.ts'
import type { ElementChange, ElementWay } from './ruleset-applier.ts'

/** Changes elements of our table without a process of nft. */
export interface ElementUpdates {
  /**
   * Runs the transaction; false when it has to be given to nft instead, which is logged once. Throws a
   * `RulesetRejectedError` when the kernel does not hold what the change is about.
   */
  tryChange(change: ElementChange): boolean
  way(): ElementWay
}

/** What says that our idea of the table is wrong, in nft's words; all else may be our own fault. */
const contradictions: Readonly<Record<string, string>> = {
  ENOENT: 'No such file or directory',
  EEXIST: 'File exists',
  EBUSY: 'Device or resource busy',
}
/** Room for thousands of answers; the first that is an error ends the reading. */
const answerBytes = 256 * 1024

/** Without native functions there is nothing but nft. */
export function createElementUpdates(
  table: string,
  native: Pick<NativeFunctions, 'changeNetfilter'> | undefined,
  logger: Logger,
): ElementUpdates {
  let isFailing = native === undefined

  const fail = (error: unknown): false => {
    if (!isFailing) logger.warn({ error }, 'cannot change elements of nftables by netlink; going on with nft')
    isFailing = true
    return false
  }

  return {
    tryChange(change) {
      if (native === undefined) return false
      try {
        run(native, table, change)
      } catch (error) {
        if (error instanceof RulesetRejectedError) throw error
        return fail(error)
      }
      if (isFailing) logger.info({}, 'elements of nftables are changed by netlink again')
      isFailing = false
      return true
    },
    way: () => (isFailing ? 'nft' : 'netlink'),
  }
}

function run(native: Pick<NativeFunctions, 'changeNetfilter'>, table: string, change: ElementChange): void {
  const batch = encodeBatch(table, change)
  const answers = Buffer.alloc(answerBytes)
  const length = native.changeNetfilter(batch, answers)
  if (length < 0) throw new Error(`Cannot send ${batch.length} bytes to nftables: ${getSystemErrorName(length)}`)
  const { isDone, refusal } = readAnswers(answers.subarray(0, length), batch, change)
  if (refusal !== undefined) throw refusalOf(refusal)
  if (!isDone) throw new Error('Cannot tell whether nftables took a change: its answer got lost')
}

function refusalOf({ errno, name, key }: NonNullable<BatchAnswer['refusal']>): Error {
  const code = getSystemErrorName(-errno)
  const place = name === undefined ? '' : `${key === undefined ? '' : `element ${key} of `}${name}`
  const contradiction = contradictions[code]
  if (contradiction === undefined) return new Error(`Cannot change ${place || 'nftables'}: the kernel answers ${code}`)
  return new RulesetRejectedError(contradiction, place || undefined)
}
