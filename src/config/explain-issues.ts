import type * as z from 'zod'
import { type ConfigProblem, renderPath, renderValue } from './problem.ts'
import { expectationOf, nodeAt, pathsOfKey, type SchemaNode } from './schema-tree.ts'
import { closestOf } from './suggest.ts'
import type { YamlDocument } from './yaml-document.ts'

type Path = readonly PropertyKey[]
type Explanation = Pick<ConfigProblem, 'message' | 'remedy' | 'didYouMean'>

/** Turns what the schema found into problems in the order of the file, at most one for each path. */
export function explainIssues(
  issues: readonly z.core.$ZodIssue[],
  document: YamlDocument,
  tree: SchemaNode,
): ConfigProblem[] {
  const problems = new Map<string, ConfigProblem>()
  for (const issue of issues) {
    for (const problem of explainIssue(issue, document, tree)) {
      if (!problems.has(problem.path)) problems.set(problem.path, problem)
    }
  }
  return [...problems.values()]
}

/** A problem at a path of a document. */
export function problemAt(document: YamlDocument, path: Path, explanation: Explanation): ConfigProblem {
  const value = valueAt(document.value, path)
  const shown = value === undefined ? {} : { value }
  return { file: document.file, ...document.positionOf(path), path: renderPath(path), ...shown, ...explanation }
}

/** What a document holds at a path; undefined where nothing is written. */
export function valueAt(value: unknown, path: Path): unknown {
  let current: unknown = value
  for (const key of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, key)) return undefined
    current = Reflect.get(current, key)
  }
  return current
}

function explainIssue(issue: z.core.$ZodIssue, document: YamlDocument, tree: SchemaNode): ConfigProblem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => problemAt(document, [...issue.path, key], explainUnknownKey(key, issue.path, tree)))
  }
  // Values that are good each, but not together.
  if (issue.code === 'custom' && typeof issue.params?.['remedy'] === 'string') {
    return [problemAt(document, issue.path, { message: issue.message, remedy: issue.params['remedy'] })]
  }
  if (issue.code === 'invalid_key') {
    const node = nodeAt(tree, issue.path.slice(0, -1))?.propertyNames ?? {}
    return [problemAt(document, issue.path, explainValue(node, String(issue.path.at(-1)), issue.path))]
  }
  const node = nodeAt(tree, issue.path) ?? {}
  const value = valueAt(document.value, issue.path)
  return [problemAt(document, issue.path, explainValue(node, value, issue.path))]
}

function explainUnknownKey(key: string, parent: Path, tree: SchemaNode): Explanation {
  const known = Object.keys(nodeAt(tree, parent)?.properties ?? {})
  const sameLetters = known.find((name) => name.toLowerCase() === key.toLowerCase())
  if (sameLetters !== undefined) {
    return { message: 'unknown key: upper and lower case matter', didYouMean: sameLetters, remedy: 'remove it' }
  }
  const elsewhere = pathsOfKey(tree, key)
  const [place] = elsewhere
  if (place !== undefined && elsewhere.length === 1) {
    return { message: 'unknown key here', didYouMean: renderPath(place), remedy: 'remove it' }
  }
  const closest = closestOf(key, known)
  if (closest !== undefined) return { message: 'unknown key', didYouMean: closest, remedy: 'remove it' }
  return { message: 'unknown key', remedy: `remove it; known here: ${known.join(', ')}` }
}

function explainValue(node: SchemaNode, value: unknown, path: Path): Explanation {
  const expectation = expectationOf(node)
  if (value === undefined) {
    const key = String(path.at(-1))
    return { message: `is required: ${expectation}`, remedy: `add "${key}: ${exampleOf(node)}"` }
  }
  const message = `expected ${expectation}, got ${renderValue(value)}`
  const closest = typeof value === 'string' ? closestOf(value, (node.enum ?? []).map(String)) : undefined
  const suggestion = closest === undefined ? {} : { didYouMean: closest }
  return { message, ...suggestion, remedy: remedyFor(node, value) }
}

function remedyFor(node: SchemaNode, value: unknown): string {
  switch (node.type) {
    case 'integer':
    case 'number':
      return numberRemedyFor(node, value)
    case 'boolean':
      return booleanRemedyFor(value)
    case 'array':
      return 'write a list, one "- " line for each entry'
    case 'object':
      return 'write its keys on indented lines below it'
    case 'string':
      return textRemedyFor(node, value)
    default:
      return 'see docs/reference/config.md'
  }
}

function numberRemedyFor(node: SchemaNode, value: unknown): string {
  if (typeof value === 'string' && isAccepted(node, Number(value)) && value.trim() !== '') {
    return `remove the quotes: ${Number(value)}`
  }
  const kind = node.maximum === 65535 ? 'a port number' : 'a number'
  return `write ${kind}, for example ${exampleOf(node)}`
}

function isAccepted({ type, minimum, exclusiveMinimum, maximum }: SchemaNode, value: number): boolean {
  const isOfType = type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value)
  const isAbove = value >= (minimum ?? -Infinity) && value > (exclusiveMinimum ?? -Infinity)
  return isOfType && isAbove && value <= (maximum ?? Infinity)
}

const truths: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  false: false,
  no: false,
  off: false,
}

function booleanRemedyFor(value: unknown): string {
  const meant = typeof value === 'string' ? truths[value.toLowerCase()] : undefined
  return meant === undefined ? 'write true or false' : `write ${meant} without quotes`
}

function textRemedyFor(node: SchemaNode, value: unknown): string {
  if (node.const !== undefined) return `write ${node.const}`
  if (node.enum !== undefined) return `write one of ${node.enum.join(', ')}`
  const isPlain = typeof value === 'number' || typeof value === 'boolean'
  const isTextEnough = node.pattern === undefined ? node.expects === undefined : matches(node.pattern, String(value))
  return isPlain && isTextEnough ? `put it in quotes: "${value}"` : `write it like ${exampleOf(node)}`
}

function matches(pattern: string, text: string): boolean {
  return new RegExp(pattern).test(text)
}

function exampleOf(node: SchemaNode): string {
  const candidates = [...(node.examples ?? []), node.default, node.minimum]
  const example = candidates.find((candidate) => candidate !== undefined && candidate !== '' && candidate !== 0)
  if (example !== undefined) return typeof example === 'object' ? JSON.stringify(example) : String(example)
  return node.maximum === 65535 ? '20006' : '1'
}
