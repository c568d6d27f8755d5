/** What identifies a build. */
export interface BuildInfo {
  readonly version: string
  readonly commit: string
}

/** What the process gives to a command; commands touch no global of the process. */
export interface CommandContext {
  /** Writes to standard output. */
  out(text: string): void
  /** Writes to standard error. */
  err(text: string): void
  readonly env: Readonly<Record<string, string | undefined>>
  /** Aborts at the first SIGTERM or SIGINT. */
  readonly signal: AbortSignal
  readonly build: BuildInfo
}

/** What the user typed after a command's name. */
export interface CommandInput {
  readonly arguments: readonly string[]
  /** By long name in camel case: `--config-file` is `configFile`. */
  readonly options: Readonly<Record<string, unknown>>
}

/** Runs a command; the number is the exit code. Throws what `main` shall print and map to an exit code. */
export type RunCommand = (input: CommandInput, context: CommandContext) => Promise<number>

/** An option or argument as help shows it. */
export interface ParameterHelp {
  /** `--config <file>` for an option, `<file>` or `[file]` for an argument. */
  readonly syntax: string
  readonly description: string
  readonly choices?: readonly string[]
}

/** Headings of the help page, in its order. */
export const commandGroups = ['Run', 'Look', 'Configuration', 'Other'] as const

/** One line of the command table: all that help needs, and how to get the rest. */
export interface CommandEntry {
  /** Two words for a command in a family: `config schema`. */
  readonly name: string
  readonly group: (typeof commandGroups)[number]
  readonly summary: string
  readonly arguments?: readonly ParameterHelp[]
  readonly options?: readonly ParameterHelp[]
  /** A command line that works, for the help page. */
  readonly example?: string
  /** Files that it reads or writes, for the help page. */
  readonly files?: readonly ParameterHelp[]
  /** Imports the command; nothing of it is loaded before. */
  readonly load: () => Promise<{ readonly run: RunCommand }>
}
