import { type Field, ObjectParseError } from './field.ts'

/** What an object asks for in vain, gathered while it is parsed, so that one bad part costs only itself. */
export class Notes {
  /** What this product does not do. */
  readonly ignored: string[] = []
  /** What is wrong. */
  readonly problems: string[] = []

  /** Names the fields of a map that are not in the list. */
  checkKeys(field: Field, known: readonly string[]): void {
    for (const key of field.keys()) {
      if (!known.includes(key)) this.ignored.push(`${field.at(key).where}: has no effect here`)
    }
  }

  /** Says of a field that is there that it has no effect, and why. */
  ignore(field: Field, reason: string): void {
    if (!field.isAbsent) this.ignored.push(`${field.where}: ${reason}`)
  }

  /** The part, or undefined after noting what is wrong with it. */
  attempt<T>(parse: () => T): T | undefined {
    try {
      return parse()
    } catch (error) {
      if (!(error instanceof ObjectParseError)) throw error
      this.problems.push(error.message)
      return undefined
    }
  }

  /** The items that can be parsed; what is wrong with the others is noted. */
  each<T>(items: readonly Field[], parse: (item: Field, index: number) => T): T[] {
    return items.flatMap((item, index) => {
      const parsed = this.attempt(() => ({ value: parse(item, index) }))
      return parsed === undefined ? [] : [parsed.value]
    })
  }
}
