/** The executables under test and how to run them: the other architecture's runs under emulation. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

export type Architecture = 'x64' | 'arm64'

export const architectures: readonly Architecture[] = ['x64', 'arm64']
export const hostArchitecture = process.arch as Architecture
export const root = fileURLToPath(new URL('../..', import.meta.url))

const emulator = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu']

export function executableOf(architecture: Architecture): string {
  return join(root, 'dist', `edgemesh-linux-${architecture}`)
}

/** Runs a command to its end, with nothing in its environment but PATH and what is given. */
export function runCommand(argv: readonly string[], env: NodeJS.ProcessEnv = {}): SpawnSyncReturns<string> {
  const [file = '', ...args] = argv
  const { PATH } = process.env
  const options = { encoding: 'utf8', timeout: 60_000, maxBuffer: 64e6 } as const
  return spawnSync(file, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'], env: { PATH, ...env } })
}

export function runExecutable(
  architecture: Architecture,
  args: readonly string[],
  env?: NodeJS.ProcessEnv,
): SpawnSyncReturns<string> {
  const prefix = architecture === hostArchitecture ? [] : emulator
  return runCommand([...prefix, executableOf(architecture), ...args], env)
}
