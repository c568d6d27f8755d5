/** How the process ends, in the words of sysexits.h where it has one. */
export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 64,
  unavailable: 69,
  internal: 70,
  system: 71,
  permission: 77,
  config: 78,
} as const

/** What each exit code means, for the help page and the documentation. */
export const exitCodeMeanings: ReadonlyMap<number, string> = new Map([
  [exitCodes.ok, 'done'],
  [exitCodes.failure, 'failed for another reason'],
  [exitCodes.usage, 'the command line is wrong'],
  [exitCodes.unavailable, 'a second instance runs, or an address is taken'],
  [exitCodes.internal, 'a fault in edgemesh itself'],
  [exitCodes.system, 'the system lacks something, such as nft'],
  [exitCodes.permission, 'not permitted; most commands need root'],
  [exitCodes.config, 'the configuration is wrong'],
])

const codesByErrorCode: Readonly<Record<string, number>> = {
  EDGEMESH_ALREADY_RUNNING: exitCodes.unavailable,
  EDGEMESH_ADDRESS_TAKEN: exitCodes.unavailable,
  EADDRINUSE: exitCodes.unavailable,
  EDGEMESH_MISSING_COMMAND: exitCodes.system,
  EDGEMESH_COMMAND_FAILED: exitCodes.system,
  EDGEMESH_RULESET_REJECTED: exitCodes.system,
  EDGEMESH_NOT_PERMITTED: exitCodes.permission,
  EACCES: exitCodes.permission,
  EPERM: exitCodes.permission,
  ENOSPC: exitCodes.system,
  EROFS: exitCodes.system,
}

/**
 * The exit code for an error: its own `exitCode` or that of the first cause that has one; else by its
 * error code; else 1. Of several errors at once the first counts as the cause.
 */
export function exitCodeOf(error: unknown): number {
  const chain = causesOf(error)
  const own = chain.map(({ exitCode }) => exitCode).find(isExitCode)
  if (own !== undefined) return own
  const known = chain.map(({ code }) => (typeof code === 'string' ? codesByErrorCode[code] : undefined))
  return known.find((code) => code !== undefined) ?? exitCodes.failure
}

interface Failure {
  readonly exitCode?: unknown
  readonly code?: unknown
  readonly cause?: unknown
}

function causeOf(error: Failure): unknown {
  return error instanceof AggregateError ? (error.cause ?? error.errors[0]) : error.cause
}

function causesOf(error: unknown): Failure[] {
  const chain: Failure[] = []
  let current = error
  while (isFailure(current) && !chain.includes(current)) {
    chain.push(current)
    current = causeOf(current)
  }
  return chain
}

function isFailure(error: unknown): error is Failure {
  return typeof error === 'object' && error !== null
}

function isExitCode(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 256
}
