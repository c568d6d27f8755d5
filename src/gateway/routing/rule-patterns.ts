import type { HttpRule } from '../../model/index.ts'
import { compilePattern, compileStringMatch, PatternError } from './string-matcher.ts'

/** Why a rule cannot be followed: a regex of its rewrite or CORS policy is none. Matches are looked at elsewhere. */
export function patternProblemOf({ action, cors }: HttpRule): string | undefined {
  try {
    const regex = action.kind === 'forward' ? action.rewrite?.uriRegex?.match : undefined
    if (regex !== undefined) compilePattern(regex)
    for (const origin of cors?.origins ?? []) compileStringMatch(origin)
    return undefined
  } catch (error) {
    if (!(error instanceof PatternError)) throw error
    return error.message
  }
}

/** The rule, or one that answers with the reason why it cannot be followed: requests are no place to find that out. */
export function followable(rule: HttpRule): HttpRule {
  const reason = patternProblemOf(rule)
  if (reason === undefined) return rule
  const { cors: _cors, ...rest } = rule
  return { ...rest, action: { kind: 'broken', reason } }
}
