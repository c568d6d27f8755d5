/** Compiles our own native addon (src/linux/native) for an architecture, with Debian's gcc. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

export type Architecture = 'x64' | 'arm64'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The prefix of Debian's binutils and gcc for an architecture; empty for the machine's own. */
export function toolPrefixOf(architecture: Architecture): string {
  if (architecture === process.arch) return ''
  return architecture === 'arm64' ? 'aarch64-linux-gnu-' : 'x86_64-linux-gnu-'
}

/**
 * Writes the addon to `output`; the headers are those of the Node package at `nodePackage`. Nothing in it tells where or
 * when it was compiled, so the same compiler gives the same bytes.
 */
export function compileNativeAddon(architecture: Architecture, nodePackage: string, output: string): void {
  const flags = [
    '-O2',
    '-std=c11',
    '-fPIC',
    '-shared',
    '-fvisibility=hidden',
    '-s',
    '-Wl,--build-id=none',
    '-Wl,-z,now',
  ]
  const strict = ['-Wall', '-Wextra', '-Werror']
  const source = join('src', 'linux', 'native', 'edgemesh.c')
  const headers = join(nodePackage, 'include', 'node')
  execFileSync(`${toolPrefixOf(architecture)}gcc`, [...flags, ...strict, `-I${headers}`, '-o', output, source], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
}
