import * as z from 'zod'
import { type Role, roles, schemas } from './documents.ts'

/** A JSON Schema node, with the marks that the features' schemas put beside their keys. */
export interface SchemaNode {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly examples?: readonly unknown[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly minimum?: number
  readonly exclusiveMinimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly pattern?: string
  readonly format?: string
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly required?: readonly string[]
  readonly items?: SchemaNode
  /** Of a mapping with keys of the user's own. */
  readonly additionalProperties?: SchemaNode | false
  readonly propertyNames?: SchemaNode
  /** What is accepted, as a noun phrase, where type and limits do not tell. */
  readonly expects?: string
  /** Why setting the key changes nothing until a later version. */
  readonly noEffect?: string
  /** Why setting the key never changes anything. */
  readonly ignored?: string
  /** The value of a key beside it without which the key changes nothing, and why. */
  readonly ignoredUnless?: { readonly key: string; readonly value: string; readonly why: string }
}

/** The schema of a role as a plain tree, marks included. */
export function schemaTreeOf(role: Role): SchemaNode {
  return z.toJSONSchema(schemas[role], { io: 'input' }) as SchemaNode
}

/** The schema of a role as a JSON Schema document that editors and other tools take. */
export function jsonSchemaOf(role: Role): SchemaNode {
  const { $schema, ...document } = publish(schemaTreeOf(role)) as SchemaNode & { readonly $schema?: string }
  return { $schema, title: `Configuration of edgemesh ${role}`, ...document } as SchemaNode
}

/** The node at a path of keys and list positions; undefined where the schema knows nothing. */
export function nodeAt(tree: SchemaNode, path: readonly PropertyKey[]): SchemaNode | undefined {
  let node: SchemaNode | undefined = tree
  for (const key of path) {
    node = typeof key === 'number' ? node?.items : childOf(node, String(key))
  }
  return node
}

function childOf(node: SchemaNode | undefined, key: string): SchemaNode | undefined {
  return ownProperty(node?.properties, key) ?? (node?.additionalProperties || undefined)
}

/** The paths of all keys with this name, without regard to case. */
export function pathsOfKey(tree: SchemaNode, key: string): string[][] {
  return Object.entries(tree.properties ?? {}).flatMap(([name, child]) => {
    const here = name.toLowerCase() === key.toLowerCase() ? [[name]] : []
    return [...here, ...pathsOfKey(child, key).map((path) => [name, ...path])]
  })
}

/** What a node accepts, as a noun phrase: `an integer in 1..65535`. */
export function expectationOf(node: SchemaNode): string {
  if (node.expects !== undefined) return node.expects
  if (node.const !== undefined) return JSON.stringify(node.const)
  if (node.enum !== undefined) return `one of ${node.enum.join(', ')}`
  switch (node.type) {
    case 'integer':
      return `an integer${rangeOf(node)}`
    case 'number':
      return `a number${rangeOf(node)}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return 'a list'
    case 'object':
      return 'a mapping'
    case 'string':
      return textExpectationOf(node)
    default:
      return 'another value'
  }
}

/** True for one of the names of the long-running commands. */
export function isRole(text: unknown): text is Role {
  return roles.some((role) => role === text)
}

function rangeOf({ type, minimum, exclusiveMinimum, maximum }: SchemaNode): string {
  // zod writes the limits of safe integers where a schema has none of its own.
  const isBounded = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER
  const least = type === 'integer' && exclusiveMinimum !== undefined ? exclusiveMinimum + 1 : minimum
  if (least !== undefined && isBounded) return ` in ${least}..${maximum}`
  if (least !== undefined) return ` of at least ${least}`
  return exclusiveMinimum === undefined ? '' : ` above ${exclusiveMinimum}`
}

function textExpectationOf({ format, pattern, minLength }: SchemaNode): string {
  if (format === 'ipv4') return 'an IPv4 address'
  if (pattern?.startsWith('^\\/') === true) return 'an absolute path'
  return minLength === undefined ? 'text' : 'text that is not empty'
}

function publish(node: SchemaNode): SchemaNode {
  const { expects, noEffect, ignored, ignoredUnless: unless, description, properties, items, ...marked } = node
  const { additionalProperties: others, propertyNames, ...rest } = marked
  const sentences = [
    description,
    ...(noEffect === undefined ? [] : [`No effect yet: ${noEffect}.`]),
    ...(ignored === undefined ? [] : [`No effect: ${ignored}.`]),
    ...(unless === undefined ? [] : [`No effect unless ${unless.key} is ${unless.value}: ${unless.why}.`]),
  ].filter((sentence) => sentence !== undefined)
  return {
    ...(sentences.length === 0 ? {} : { description: sentences.join(' ') }),
    ...rest,
    ...(items === undefined ? {} : { items: publish(items) }),
    ...(propertyNames === undefined ? {} : { propertyNames: publish(propertyNames) }),
    ...(others === undefined ? {} : { additionalProperties: others && publish(others) }),
    ...(properties === undefined ? {} : { properties: publishAll(properties) }),
  }
}

function publishAll(properties: Readonly<Record<string, SchemaNode>>): Record<string, SchemaNode> {
  return Object.fromEntries(Object.entries(properties).map(([key, child]) => [key, publish(child)]))
}

function ownProperty<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined
}
