import type { Logger } from '../observability/index.ts'
import { SyntheticRangeFullError } from './errors.ts'

/** Remembers who found the synthetic range full, and says so once in the log until there is room again. */
export interface RangeFullNotice {
  /** Takes note of how many have no place now. */
  tell(missing: number): void
  /** What is wrong, in words; undefined when everybody has a place. */
  readonly problem: string | undefined
}

/** Begins with room for everybody. */
export function createRangeFullNotice(range: string, logger: Logger): RangeFullNotice {
  let problem: string | undefined
  return {
    tell(missing) {
      const error = missing > 0 ? new SyntheticRangeFullError(range, missing) : undefined
      if (error !== undefined && problem === undefined) {
        logger.error({ error, count: missing, remedy: error.remedy }, 'some Services are refused on this node')
      }
      problem = error?.message
    },
    get problem() {
      return problem
    },
  }
}
