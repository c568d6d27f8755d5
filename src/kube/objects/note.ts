import { type Field, ObjectParseError } from './field.ts'

/** Is told what of an object is left out, while the rest of it is used. */
export type Note = (problem: ObjectParseError) => void

/** For callers that only want the object. */
export const noNote: Note = () => {}

/** What `read` makes of an optional field; undefined, with a note, when the field cannot be used. */
export function usable<T>(read: () => T, note: Note): T | undefined {
  try {
    return read()
  } catch (problem) {
    if (!(problem instanceof ObjectParseError)) throw problem
    note(problem)
    return undefined
  }
}

/** What `read` makes of the items of an optional list; what cannot be used of it is left out with a note. */
export function usableItems<T>(list: () => Field, read: (item: Field) => T | undefined, note: Note): T[] {
  const items = usable(() => list().items(), note) ?? []
  return items.flatMap((item) => {
    const value = usable(() => read(item), note)
    return value === undefined ? [] : [value]
  })
}
