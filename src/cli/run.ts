import { inspect } from 'node:util'
import { CommanderError } from 'commander'
import { commands as allCommands, type CommandContext, type CommandEntry } from '../commands/index.ts'
import { exitCodeOf, exitCodes } from './exit-codes.ts'
import { createProgram } from './program.ts'
import { build } from './version.ts'

/** What the process gives to the command line. */
export type CommandLineContext = Omit<CommandContext, 'build'>

/** Runs one command line (without the program's own name) and gives the exit code. Prints errors, never throws. */
export async function runCommandLine(
  argv: readonly string[],
  context: CommandLineContext,
  commands: readonly CommandEntry[] = allCommands,
): Promise<number> {
  let exitCode: number = exitCodes.ok
  const full: CommandContext = { ...context, build }
  const program = createProgram(commands, full, (finished) => {
    exitCode = finished
  })
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
    // A command may end by throwing the reason it was asked to stop for.
    if (context.signal.aborted && error === context.signal.reason) return exitCodes.ok
    context.err(await renderFailure(error, context.env))
    return exitCodeOf(error)
  }
}

/** An error as a person should read it: what failed and why on one line, no stack unless EDGEMESH_DEBUG is set. */
async function renderFailure(error: unknown, env: CommandContext['env']): Promise<string> {
  if (env['EDGEMESH_DEBUG']) return `edgemesh: ${inspect(error)}\n`
  // Lines that begin with a file and a position are left as editors and people expect them.
  if (isConfigError(error)) return `${error.message}\n`
  const { describeError } = await import('../observability/index.ts')
  const text = describeError(error).replace(/\s*\n\s*/g, '; ')
  const remedy = remedyOf(error)
  return `edgemesh: ${text}${remedy === undefined || text.includes(remedy) ? '' : `; ${remedy}`}\n`
}

/** What to do, from the outermost error that knows. */
function remedyOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  if ('remedy' in error && typeof error.remedy === 'string') return error.remedy
  return error.cause === error ? undefined : remedyOf(error.cause)
}

function isConfigError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'EDGEMESH_CONFIG'
}
