import { type ChildProcess, spawn } from 'node:child_process'
import { TimeLimit } from '../runtime/index.ts'
import { CommandFailedError, MissingCommandError, NotPermittedError } from './errors.ts'

/** What to run: never a shell, always an argument array. */
export interface Command {
  readonly command: string
  readonly arguments: readonly string[]
  /** Written to standard input. */
  readonly input?: string
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>
  /** What it is for, as the rest of the sentence "Cannot ...". */
  readonly action: string
  /** After this long it is ended; two minutes unless said. */
  readonly timeoutMs?: number
}

/** Far longer than the largest ruleset takes on a small device, and shorter than anybody would wait for new rules. */
const usualTimeoutMs = 120_000

/** Runs a command to its end and returns what it wrote to standard output; rejects when it exits with an error. */
export async function runCommand(command: Command, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted()
  const result = await collectInTime(command, signal)
  if (result.exit === 'exit code 0') return result.stdout
  if (/operation not permitted|must be root|permission denied/i.test(result.stderr)) {
    throw new NotPermittedError(command.action, { cause: new Error(result.stderr.trim()) })
  }
  throw new CommandFailedError([command.command, ...command.arguments].join(' '), result.exit, result.stderr)
}

async function collectInTime(command: Command, signal: AbortSignal): Promise<Result> {
  const { timeoutMs = usualTimeoutMs } = command
  using limit = new TimeLimit(timeoutMs, signal)
  try {
    return await collect(command, limit.signal)
  } catch (error) {
    if (!limit.isOver || signal.aborted) throw error
    throw new Error(`Cannot ${command.action}: ${command.command} was not done within ${timeoutMs} ms`, {
      cause: error,
    })
  }
}

interface Result {
  readonly exit: string
  readonly stdout: string
  readonly stderr: string
}

function collect(command: Command, signal: AbortSignal): Promise<Result> {
  return new Promise((resolve, reject) => {
    // Messages are read to tell errors apart, so they must not be translated.
    const env = { ...process.env, LC_ALL: 'C', ...command.env }
    // Its streams are missing when there was no file descriptor for them.
    const child: ChildProcess = spawn(command.command, command.arguments, { env, signal, stdio: 'pipe' })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.on('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'ENOENT' ? new MissingCommandError(command.command, { cause: error }) : error)
    })
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.on('close', (code, killedBy) => {
      const exit = code === null ? `killed by ${killedBy}` : `exit code ${code}`
      resolve({ exit, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() })
    })
    // A command that ends without reading its input closes the pipe; its exit code tells more than EPIPE.
    child.stdin?.on('error', () => {})
    child.stdin?.end(command.input ?? '')
  })
}
