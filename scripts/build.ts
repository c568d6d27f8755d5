/**
 * Builds the executables: one bundle by esbuild, put into the pinned Node of each architecture by pkg.
 *
 *   npm run build              both architectures
 *   npm run build -- --host    only this machine's, quicker
 *
 * Everything comes from npm's registry: pkg would download Node itself, so its cache is filled beforehand with the
 * pinned binaries (stripped, or the executable would be larger than its limit).
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { bundleOptions } from '../esbuild.config.mjs'

type Architecture = 'x64' | 'arm64'

const limitBytes = 115_000_000
const nodeVersion = process.version
const root = fileURLToPath(new URL('..', import.meta.url))
const cache = join(root, '.cache')
const dist = join(root, 'dist')

const host = process.arch as Architecture
const architectures: readonly Architecture[] = process.argv.includes('--host') ? [host] : ['x64', 'arm64']

const bundle = await bundleSources()
for (const architecture of architectures) seedPkgCache(architecture)
await packExecutables()

async function bundleSources(): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const outfile = join(cache, 'build', 'edgemesh.cjs')
  const result = await build({ ...bundleOptions({ version, commit: commitOf() }), outfile })
  writeFileSync(join(cache, 'build', 'metafile.json'), JSON.stringify(result.metafile))
  return outfile
}

/** The commit, with a mark when the tree differs from it; `unknown` outside a git clone. */
function commitOf(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', ['-c', `safe.directory=${root.replace(/\/$/, '')}`, ...args], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  try {
    return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '-dirty')
  } catch {
    return 'unknown'
  }
}

/** Where pkg looks for a downloaded Node: the binary, and sentinels that say that it was checked. */
function seedPkgCache(architecture: Architecture): void {
  const folder = join(cache, 'pkg-home', '.pkg-cache', 'sea', `node-${nodeVersion}-linux-${architecture}`)
  const node = join(folder, 'bin', 'node')
  if (existsSync(`${node}.ok`)) return
  mkdirSync(join(folder, 'bin'), { recursive: true })
  copyFileSync(pinnedNodeOf(architecture), node)
  execFileSync(stripCommandOf(architecture), [node])
  for (const sentinel of [`${folder}.tar.gz`, `${folder}.tar.gz.ok`, `${node}.ok`]) writeFileSync(sentinel, '')
}

function pinnedNodeOf(architecture: Architecture): string {
  const toolchain = join(cache, `toolchain-${architecture}`)
  if (architecture !== host) {
    execFileSync(
      'bash',
      ['-c', `. "${root}scripts/lib.sh" && ensure_cross_build_commands && ensure_node ${architecture}`],
      {
        stdio: ['ignore', 'inherit', 'inherit'],
      },
    )
  }
  return join(toolchain, 'node_modules', `node-linux-${architecture}`, 'bin', 'node')
}

function stripCommandOf(architecture: Architecture): string {
  if (architecture === host) return 'strip'
  return architecture === 'arm64' ? 'aarch64-linux-gnu-strip' : 'x86_64-linux-gnu-strip'
}

async function packExecutables(): Promise<void> {
  mkdirSync(dist, { recursive: true })
  for (const architecture of architectures) {
    const output = join(dist, `edgemesh-linux-${architecture}`)
    await packWithPkg(architecture, `${output}.new`)
    const { size } = statSync(`${output}.new`)
    if (size > limitBytes) throw new Error(`${output} has ${size} bytes, more than ${limitBytes}`)
    renameSync(`${output}.new`, output)
    process.stdout.write(`${output.slice(root.length)} ${(size / 1e6).toFixed(1)} MB\n`)
  }
}

/**
 * pkg's command line cannot pass options to Node's own packer, so its module is called directly.
 * - The young generation is capped: it would grow to 128 MB under load.
 * - V8's code cache halves the memory of an idle process, but only fits the architecture that made it.
 * - Node options in the environment are not honoured: whoever sets them would run code inside the service.
 */
async function packWithPkg(architecture: Architecture, output: string): Promise<void> {
  const home = process.env['HOME']
  process.env['HOME'] = join(cache, 'pkg-home')
  try {
    const { default: pack } = createRequire(import.meta.url)('@yao-pkg/pkg/lib-es5/sea.js') as { default: Pack }
    await pack(bundle, {
      targets: [{ nodeRange: `node${nodeVersion.slice(1)}`, platform: 'linux', arch: architecture, output }],
      seaConfig: {
        disableExperimentalSEAWarning: true,
        useCodeCache: architecture === host,
        useSnapshot: false,
        execArgv: ['--max-semi-space-size=1'],
        execArgvExtension: 'none',
      },
    })
  } finally {
    if (home !== undefined) process.env['HOME'] = home
    rmSync(`${output}.blob`, { force: true })
  }
}

type Pack = (
  entry: string,
  options: {
    targets: { nodeRange: string; platform: string; arch: string; output: string }[]
    seaConfig: Record<string, unknown>
  },
) => Promise<void>
