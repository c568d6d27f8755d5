/** A structural schema of a CustomResourceDefinition. */
export type CrdSchema = Readonly<Record<string, unknown>>

/** Text. */
export const text: CrdSchema = { type: 'string' }

/** A whole number. */
export const integer: CrdSchema = { type: 'integer' }

/** True or false. */
export const bool: CrdSchema = { type: 'boolean' }

/** Text by text, such as labels. */
export const textMap: CrdSchema = { type: 'object', additionalProperties: text }

/** An object of which nothing is checked. */
export const anyObject: CrdSchema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }

/** An object whose named fields are checked and whose others are kept as they are. */
export function objectOf(properties: Readonly<Record<string, CrdSchema>>, required: readonly string[] = []): CrdSchema {
  return { ...anyObject, properties, ...(required.length > 0 && { required }) }
}

/** A list. */
export function listOf(items: CrdSchema): CrdSchema {
  return { type: 'array', items }
}
