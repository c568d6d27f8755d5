/**
 * The command line: argv to a command and its options, help, version, and errors to exit codes. What the commands
 * do is in `commands/`; nothing of a command is loaded before it is called.
 *
 * Read next: `run.ts`, `program.ts`, `exit-codes.ts`.
 *
 * @module
 */
export * from './exit-codes.ts'
export * from './run.ts'
export { renderVersion } from './version.ts'
