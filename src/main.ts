import { constants } from 'node:os'
import process from 'node:process'
import { exitCodes, runCommandLine } from './cli/index.ts'

/** Runs the command line until it ends or a signal asks it to; the only place that ends the process. */
async function main(): Promise<void> {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => stopOrLeave(stop, name))
  process.on('uncaughtException', leaveWithFault)
  process.on('unhandledRejection', leaveWithFault)
  process.stdout.on('error', leaveWhenUnread)
  const exitCode = await runCommandLine(process.argv.slice(2), {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    env: process.env,
    signal: stop.signal,
  })
  // What was written to a pipe may still wait for its reader.
  process.stdout.write('', () => process.exit(exitCode))
}

/** The first signal asks for an orderly end, the second does not wait for it. */
function stopOrLeave(stop: AbortController, name: 'SIGTERM' | 'SIGINT'): void {
  if (stop.signal.aborted) process.exit(128 + constants.signals[name])
  stop.abort(new Error(`stopped by ${name}`))
}

function leaveWithFault(error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.stderr.write(`edgemesh: a fault in edgemesh itself, please report it: ${text}\n`)
  process.exit(exitCodes.internal)
}

/** `edgemesh config schema | head` closes our output before it is written; that is no failure of ours. */
function leaveWhenUnread(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
  process.exit(exitCodes.ok)
}

void main()
