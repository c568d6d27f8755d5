import { type Document, isNode, LineCounter, parseAllDocuments } from 'yaml'
import type { FieldPath } from '../objects/field.ts'

/** One document of a file: its value, or what keeps it from having one. */
export type ManifestDocument = { readonly value: unknown; lineOf(path: FieldPath): number } | SyntaxProblem

/** A syntax error; the line counts from 1. */
export interface SyntaxProblem {
  readonly line: number
  readonly message: string
}

/** Splits the text of a manifest into its documents. JSON is tried first for `.json`: it is far faster. */
export function readDocuments(fileName: string, text: string): readonly ManifestDocument[] {
  const value = fileName.endsWith('.json') ? parseJson(text) : undefined
  // The position of a field is needed for errors only, so only then is JSON read again as the YAML that it is.
  if (value !== undefined) return [{ value, lineOf: (path) => readYaml(text)[0]?.lineOf(path) ?? 1 }]
  return readYaml(text).map(({ problem, document, lineOf }) => {
    if (problem !== undefined) return problem
    try {
      return { value: document.toJS() as unknown, lineOf }
    } catch (error) {
      return { line: lineOf([]), message: String(error) }
    }
  })
}

interface YamlDocument {
  readonly document: Document
  readonly problem: SyntaxProblem | undefined
  lineOf(path: FieldPath): number
}

function readYaml(text: string): YamlDocument[] {
  const lineCounter = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter, prettyErrors: false, merge: true, logLevel: 'error' })
  // Empty text gives an empty list that has a type of its own.
  return [...documents].map((document) => {
    const [error] = document.errors
    return {
      document: document as Document,
      problem: error && { line: lineCounter.linePos(error.pos[0]).line, message: error.message },
      lineOf: (path) => lineCounter.linePos(offsetOf(document as Document, path)).line,
    }
  })
}

/** Where the field starts, or the nearest thing around it that is there. */
function offsetOf(document: Document, path: FieldPath): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return node.range[0]
  }
  return document.contents?.range?.[0] ?? document.range?.[0] ?? 0
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
