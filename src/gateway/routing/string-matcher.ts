import { RE2JS } from 're2js'
import type { StringMatch } from '../../model/index.ts'

/** Decides about one text. */
export type TextTest = (text: string) => boolean

/** A regular expression of an object that cannot be compiled; the message names it. */
export class PatternError extends Error {
  override readonly name = 'PatternError'
}

/**
 * The test that a StringMatch asks for. A regex must match the whole text, as in Istio; its time is linear in the
 * text's length whatever it is, because whoever writes routes may not stop the gateway. Throws `PatternError`.
 */
export function compileStringMatch(match: StringMatch, options: { readonly ignoreCase?: boolean } = {}): TextTest {
  const ignoreCase = options.ignoreCase === true
  switch (match.kind) {
    case 'exact': {
      const wanted = ignoreCase ? match.value.toLowerCase() : match.value
      return ignoreCase ? (text) => text.toLowerCase() === wanted : (text) => text === wanted
    }
    case 'prefix': {
      const wanted = ignoreCase ? match.value.toLowerCase() : match.value
      return ignoreCase ? (text) => text.toLowerCase().startsWith(wanted) : (text) => text.startsWith(wanted)
    }
    case 'regex': {
      const pattern = compilePattern(match.value)
      return (text) => pattern.matches(text)
    }
    default:
      return match satisfies never
  }
}

/** A compiled RE2 pattern; throws `PatternError`. */
export function compilePattern(text: string): RE2JS {
  const known = compiled.get(text)
  if (known !== undefined) return known
  if (text.length > 4096) throw new PatternError('Cannot use a regex of more than 4096 characters')
  try {
    const pattern = RE2JS.compile(text)
    if (compiled.size > 10_000) compiled.clear()
    compiled.set(text, pattern)
    return pattern
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new PatternError(`Cannot use the regex ${JSON.stringify(text)}: ${reason}`, { cause: error })
  }
}

/** Routes are compiled again with every change of any object, nearly always to the same patterns. */
const compiled = new Map<string, RE2JS>()
