/** One thing that is wrong with a configuration, with all that a person needs to mend it. */
export interface ConfigProblem {
  readonly file: string
  /** Counted from 1; absent when the problem is the file itself. */
  readonly line?: number
  readonly column?: number
  /** Keys joined by dots, `modules.edgeTunnel.servers[0]`; empty for the document as a whole. */
  readonly path: string
  readonly value?: unknown
  readonly message: string
  /** What to do, as an imperative clause. */
  readonly remedy: string
  /** The known key or value that is closest to the one written. */
  readonly didYouMean?: string
}

/** A configuration cannot be used. Its message holds one line for each problem. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly code = 'EDGEMESH_CONFIG'
  /** EX_CONFIG of sysexits. */
  readonly exitCode = 78
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[], options?: ErrorOptions) {
    super(problems.map(renderProblem).join('\n'), options)
    this.problems = problems
  }
}

/** `FILE:LINE:COLUMN: PATH: MESSAGE; REMEDY`, with what does not apply left out. */
export function renderProblem(problem: ConfigProblem): string {
  const position = problem.line === undefined ? '' : `:${problem.line}:${problem.column ?? 1}`
  const where = [`${problem.file}${position}`, ...(problem.path === '' ? [] : [problem.path])].join(': ')
  const suggestion = problem.didYouMean === undefined ? '' : `did you mean ${JSON.stringify(problem.didYouMean)}? or `
  return oneLine(`${where}: ${problem.message}; ${suggestion}${problem.remedy}`)
}

/** `['modules', 'servers', 0]` as `modules.servers[0]`. */
export function renderPath(path: readonly PropertyKey[]): string {
  return path
    .map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index === 0 ? '' : '.'}${String(key)}`))
    .join('')
}

/** A value as it may stand in a message: JSON, on one line, shortened. */
export function renderValue(value: unknown): string {
  if (typeof value === 'number') return String(value)
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ')
}
