import { hostname } from 'node:os'
import { basename } from 'node:path'
import type * as z from 'zod'
import { checkMeaning } from './check-meaning.ts'
import { type Configs, headOf, nodeNamePattern, type Role, roles, schemas } from './documents.ts'
import { explainIssues, problemAt, valueAt } from './explain-issues.ts'
import { noticesOf } from './notices.ts'
import { ConfigError, type ConfigProblem, renderValue } from './problem.ts'
import { schemaTreeOf } from './schema-tree.ts'
import { parseYaml, readText, type YamlDocument } from './yaml-document.ts'

/** Environment variables, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>

/** A valid configuration with what a person should know about it. */
export interface LoadedConfig<R extends Role = Role> {
  readonly role: R
  readonly file: string
  /** Frozen to its leaves; `nodeName` is filled in. */
  readonly config: Configs[R]
  /** Keys that are set and change nothing, one line each. */
  readonly notices: readonly string[]
  readonly document: YamlDocument
}

/** Where the configuration of a role is looked for when no file is named. */
export function defaultConfigFileOf(role: Role): string {
  return `/etc/edgemesh/config/edgemesh-${role}.yaml`
}

/** The configuration of a role, frozen. Throws a `ConfigError` with everything that is wrong. */
export function loadConfig<R extends Role>(role: R, file: string, env: Environment): Configs[R] {
  return openConfig(role, file, env).config
}

/** Like `loadConfig`, with the notices. */
export function openConfig<R extends Role>(role: R, file: string, env: Environment): LoadedConfig<R> {
  const missingRemedy =
    file === defaultConfigFileOf(role)
      ? `write one (edgemesh ${role} --minconfig prints a start), or name another with --config FILE`
      : 'check the path given to --config'
  return parseConfig(role, readOrThrow(file, missingRemedy), file, env)
}

/** Like `openConfig`, for text that is at hand; `file` only names it in messages. */
export function parseConfig<R extends Role>(role: R, text: string, file: string, env: Environment): LoadedConfig<R> {
  const document = parseOrThrow(text, file)
  const wrongHead = checkHead(role, document)
  if (wrongHead.length > 0) throw new ConfigError(wrongHead)
  return validate(role, document, env)
}

/**
 * The `runtimeDir` of a role for those who look for a running instance: that goes on when its file breaks, so this is
 * found also in a file with mistakes. Throws a `ConfigError` when the file is no YAML at all, or of another role.
 */
export function runtimeDirOf(role: Role, file: string, env: Environment): string {
  try {
    return openConfig(role, file, env).config.runtimeDir
  } catch (error) {
    const read = readText(file, '')
    const parsed = 'text' in read ? parseYaml(read.text, file) : undefined
    if (parsed === undefined || !('document' in parsed) || checkHead(role, parsed.document).length > 0) throw error
    const { runtimeDir } = parsed.document.value
    return typeof runtimeDir === 'string' ? runtimeDir : parseConfig(role, 'nodeName: any', file, env).config.runtimeDir
  }
}

/** Which role a file is for, by its `kind`, `apiVersion` or name. Throws a `ConfigError` when nothing tells. */
export function roleOfFile(file: string): Role {
  const document = parseOrThrow(readOrThrow(file, 'check the path'), file)
  const { kind, apiVersion } = document.value
  const role = roles.find((candidate) => headOf[candidate].kind === kind || headOf[candidate].apiVersion === apiVersion)
  const named = role ?? roles.find((candidate) => basename(file).startsWith(`edgemesh-${candidate}.`))
  if (named !== undefined) return named
  const message = kind === undefined ? 'is required to tell which command the file is for' : explainKind(kind)
  const kinds = roles.map((candidate) => headOf[candidate].kind).join(' or ')
  throw new ConfigError([problemAt(document, ['kind'], { message, remedy: `write kind: ${kinds}, or use --role` })])
}

function validate<R extends Role>(role: R, document: YamlDocument, env: Environment): LoadedConfig<R> {
  const tree = schemaTreeOf(role)
  const schema: z.ZodType<Configs[R]> = schemas[role]
  const parsed = schema.safeParse(document.value)
  const shapeProblems = parsed.success ? [] : explainIssues(parsed.error.issues, document, tree)
  const best = parsed.success ? parsed : schema.safeParse(withoutPaths(document.value, parsed.error.issues))
  const findings = best.success ? checkMeaning(role, best.data) : []
  const problems = [
    ...shapeProblems,
    ...findings.map(({ path, ...explanation }) => problemAt(document, path, explanation)),
    ...checkNodeName(document, env),
  ]
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems.sort(byPosition))
  const config = deepFreeze({ ...parsed.data, nodeName: nodeNameOf(document.value, env) })
  return { role, file: document.file, config, notices: noticesOf(config, document, tree), document }
}

/** A document of another kind is one problem; what is in it would only be noise. */
function checkHead(role: Role, document: YamlDocument): ConfigProblem[] {
  const { kind, apiVersion } = document.value
  const expected = headOf[role]
  const other = roles.find(
    (candidate) =>
      candidate !== role && (headOf[candidate].kind === kind || headOf[candidate].apiVersion === apiVersion),
  )
  if (other !== undefined) {
    const path = headOf[other].kind === kind ? 'kind' : 'apiVersion'
    const message = `this is the configuration of edgemesh ${other}, not of edgemesh ${role}`
    const remedy = `give it to edgemesh ${other}, or write ${path}: ${expected[path]}`
    return [problemAt(document, [path], { message, remedy })]
  }
  if (kind === undefined || kind === expected.kind) return []
  const remedy = kind === 'ConfigMap' ? 'give the text below its data instead' : `write kind: ${expected.kind}`
  return [problemAt(document, ['kind'], { message: explainKind(kind), remedy })]
}

function explainKind(kind: unknown): string {
  const kinds = roles.map((role) => headOf[role].kind).join(', ')
  return `expected one of ${kinds}, got ${renderValue(kind)}`
}

function checkNodeName(document: YamlDocument, env: Environment): ConfigProblem[] {
  const written = document.value['nodeName']
  if (written !== undefined && written !== '') return []
  const nodeName = nodeNameOf(document.value, env)
  if (nodeNamePattern.test(nodeName)) return []
  const origin = env['NODE_NAME'] ? 'env NODE_NAME' : 'the host name'
  const message = `${origin} is no node name: ${renderValue(nodeName)}`
  const remedy = 'set nodeName to lower-case letters, digits, "-" and "."'
  return [problemAt(document, ['nodeName'], { message, remedy })]
}

function nodeNameOf(value: Readonly<Record<string, unknown>>, env: Environment): string {
  const written = value['nodeName']
  if (typeof written === 'string' && written !== '') return written
  // Kubelets register the host name in lower case.
  return env['NODE_NAME'] || hostname().toLowerCase()
}

function readOrThrow(file: string, missingRemedy: string): string {
  const read = readText(file, missingRemedy)
  if ('problem' in read) throw new ConfigError([read.problem])
  return read.text
}

function parseOrThrow(text: string, file: string): YamlDocument {
  const result = parseYaml(text, file)
  if ('problems' in result) throw new ConfigError(result.problems)
  return result.document
}

/** A copy that lacks what the issues name, so that the rest can still be checked as a whole. */
function withoutPaths(value: unknown, issues: readonly z.core.$ZodIssue[]): unknown {
  const copy: unknown = structuredClone(value)
  for (const issue of issues) {
    const paths = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key]) : [issue.path]
    for (const path of paths) removeAt(copy, removablePathOf(value, path))
  }
  return copy
}

/** A bad list entry takes the list with it, and a missing key the mapping that lacks it. */
function removablePathOf(value: unknown, path: readonly PropertyKey[]): readonly PropertyKey[] {
  const entry = path.findIndex((key) => typeof key === 'number')
  const outside = entry === -1 ? path : path.slice(0, entry)
  return outside.length > 0 && valueAt(value, outside) === undefined ? outside.slice(0, -1) : outside
}

function removeAt(value: unknown, path: readonly PropertyKey[]): void {
  const key = path.at(-1)
  const parent = valueAt(value, path.slice(0, -1))
  if (typeof parent === 'object' && parent !== null && key !== undefined) Reflect.deleteProperty(parent, key)
}

function byPosition(one: ConfigProblem, other: ConfigProblem): number {
  return (one.line ?? 0) - (other.line ?? 0) || (one.column ?? 0) - (other.column ?? 0)
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const child of Object.values(value)) deepFreeze(child)
    Object.freeze(value)
  }
  return value
}
