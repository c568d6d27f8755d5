import { closeSync, openSync, readSync } from 'node:fs'
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLError,
} from 'yaml'
import type { ConfigProblem } from './problem.ts'

/** Where something stands in a file, counted from 1. */
export interface Position {
  readonly line: number
  readonly column: number
}

/** A parsed file that still knows where each key stands. */
export interface YamlDocument {
  readonly file: string
  /** Plain values; keys without a value are left out, as if they were not written. */
  readonly value: Readonly<Record<string, unknown>>
  /** Position of a key or list entry; of the closest parent when the path itself is not written. */
  positionOf(path: readonly PropertyKey[]): Position
}

/** A document, or why there is none. */
export type YamlResult = { readonly document: YamlDocument } | { readonly problems: readonly ConfigProblem[] }

/** A ConfigMap holds at most 1 MiB, so a larger file is another kind of file. */
const sizeLimitBytes = 1024 * 1024

/** Reads a text file; the problem names what stands in the way and what to do. */
export function readText(
  file: string,
  missingRemedy: string,
): { readonly text: string } | { readonly problem: ConfigProblem } {
  try {
    const bytes = readAtMost(file, sizeLimitBytes + 1)
    if (bytes.length > sizeLimitBytes) {
      return { problem: { file, path: '', message: 'is larger than 1 MiB', remedy: 'name a configuration file' } }
    }
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) }
  } catch (error) {
    return { problem: { file, path: '', ...explainReadFailure(error, missingRemedy) } }
  }
}

const parseOptions = { prettyErrors: false, resolveKnownTags: false, stringKeys: true, logLevel: 'error' } as const

/** Parses one YAML document that must be a mapping. Never throws. */
export function parseYaml(text: string, file: string): YamlResult {
  const lines = new LineCounter()
  try {
    const document = parseDocument(text, { lineCounter: lines, ...parseOptions })
    const failures = [...document.errors, ...document.warnings]
    if (failures.length > 0) return { problems: failures.map((failure) => explainYamlError(failure, file, lines)) }
    return documentOf(document, file, lines)
  } catch (error) {
    // Aliases without an anchor, bombs of aliases and nesting that exhausts the stack are thrown, not listed.
    const reason = error instanceof RangeError ? 'it is nested too deeply or contains itself' : String(error)
    const message = `is not valid YAML: ${reason}`
    return { problems: [{ file, line: 1, column: 1, path: '', message, remedy: 'write it without aliases' }] }
  }
}

function documentOf(document: Document.Parsed, file: string, lines: LineCounter): YamlResult {
  const value = withoutEmpty(document.toJS())
  const at = { file, line: 1, column: 1, path: '' }
  if (value === null || value === undefined) {
    return { problems: [{ ...at, message: 'holds no configuration', remedy: 'write at least apiVersion and kind' }] }
  }
  if (!isMap(document.contents) || !isRecord(value)) {
    const start = positionAt(lines, document.contents?.range?.[0])
    return {
      problems: [{ ...at, ...start, message: 'expected a mapping at the top', remedy: 'write "key: value" lines' }],
    }
  }
  return { document: { file, value, positionOf: (path) => positionAt(lines, offsetOf(document.contents, path)) } }
}

function offsetOf(root: Node | null, path: readonly PropertyKey[]): number | undefined {
  let node: unknown = root
  let offset = root?.range?.[0]
  for (const key of path) {
    // What an alias stands for was written elsewhere; the place to mend is the alias.
    if (isAlias(node)) break
    const step = stepInto(node, key)
    if (step === undefined) break
    node = step.node
    offset = step.offset ?? offset
  }
  return offset
}

function stepInto(
  node: unknown,
  key: PropertyKey,
): { readonly node: unknown; readonly offset: number | undefined } | undefined {
  if (isMap(node)) {
    const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key))
    return pair && { node: pair.value, offset: isScalar(pair.key) ? pair.key.range?.[0] : undefined }
  }
  if (!isSeq(node) || typeof key !== 'number') return undefined
  const item = node.items[key]
  return { node: item, offset: (item as Node | undefined)?.range?.[0] }
}

function positionAt(lines: LineCounter, offset = 0): Position {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(line, 1), column: Math.max(col, 1) }
}

const yamlRemedies: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'keep one of the two',
  MULTIPLE_DOCS: 'keep one document and remove the "---" line and what belongs to the others',
  TAB_AS_INDENT: 'indent with spaces',
  BAD_INDENT: 'correct the indentation, or close the bracket before',
  NON_STRING_KEY: 'put the text in quotes',
  TAG_RESOLVE_FAILED: 'remove the tag',
  BAD_ALIAS: 'put the text in quotes',
}

function explainYamlError(error: YAMLError, file: string, lines: LineCounter): ConfigProblem {
  const message =
    error.code === 'MULTIPLE_DOCS'
      ? 'holds more than one YAML document'
      : `is not valid YAML: ${error.message.replace(/[.\s]+$/, '')}`
  return {
    file,
    ...positionAt(lines, error.pos[0]),
    path: '',
    message,
    remedy: yamlRemedies[error.code] ?? 'correct the syntax at this place',
  }
}

function explainReadFailure(
  error: unknown,
  missingRemedy: string,
): { readonly message: string; readonly remedy: string } {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return { message: 'does not exist', remedy: missingRemedy }
    case 'EACCES':
    case 'EPERM':
      return {
        message: 'cannot be read: permission denied',
        remedy: 'run as root, or give this user the right to read it',
      }
    case 'EISDIR':
      return { message: 'is a directory', remedy: 'name a file in it' }
    case 'ERR_ENCODING_INVALID_ENCODED_DATA':
      return { message: 'is not UTF-8 text', remedy: 'save it as UTF-8' }
    default:
      return { message: `cannot be read: ${error instanceof Error ? error.message : error}`, remedy: 'check the file' }
  }
}

function readAtMost(file: string, limitBytes: number): Buffer {
  const descriptor = openSync(file, 'r')
  try {
    const buffer = Buffer.allocUnsafe(limitBytes)
    let length = 0
    while (length < limitBytes) {
      const count = readSync(descriptor, buffer, length, limitBytes - length, null)
      if (count === 0) break
      length += count
    }
    return buffer.subarray(0, length)
  } finally {
    closeSync(descriptor)
  }
}

/** Leaves out keys whose value is empty, as in `relayNodes:` with only comments below it. */
function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmpty)
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, child]) => child !== null)
      .map(([key, child]) => [key, withoutEmpty(child)]),
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
