/**
 * Builds the executables: one bundle by esbuild, put into the pinned Node of each architecture by pkg.
 *
 *   npm run build              both architectures
 *   npm run build -- --host    only this machine's, quicker
 *
 *   src/ ── esbuild ── edgemesh.cjs ─┬─ V8 ── code-cache ─┐
 *                          └─ licences.txt ───────────────┼─ pkg ── dist/edgemesh-linux-ARCH
 *   src/linux/native ── gcc ── edgemesh-ARCH.node ────────┤
 *   npm's node-linux-ARCH ── strip ──────────────────────┘
 *
 * Everything comes from npm's registry: pkg would download Node itself, so its cache is filled beforehand with the
 * pinned binaries (stripped, or the executable would be larger than its limit). The same commit gives the same bytes.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { bundleOptions } from '../esbuild.config.mjs'
import { packageFoldersOf, readPackages, renderLicenses } from './executable/licenses.ts'
import { type Architecture, compileNativeAddon, toolPrefixOf } from './executable/native-addon.ts'

const limitBytes = 115_000_000
const nodeVersion = process.version
const root = fileURLToPath(new URL('..', import.meta.url))
const cache = join(root, '.cache')
const work = join(cache, 'build')
const dist = join(root, 'dist')

/**
 * The young generation is capped: it would grow to 128 MB under load. It is collected by one thread: a second one costs more
 * to wake than there is to do, and the device has other work for its cores. Twice the smallest size leaves a tenth of what a
 * new connection costs; twice that again leaves no more. The limit of the old one, far above what is ever
 * needed, makes it grow in smaller steps: an agent that has carried 5,000 connections holds 69 MB instead of 125.
 * Those steps are 8 MB for a heap as small as ours, and buffers count: under bulk the whole heap would be marked 15 times a
 * second, which is more than half of what a byte costs. So a step is as large as what is alive, some 20 MB.
 * Garbage is collected by our own wish after the start and after bursts (src/commands/trim-memory.ts).
 */
const v8Options = [
  '--max-semi-space-size=2',
  '--no-parallel-scavenge',
  '--max-old-space-size=1024',
  '--heap-growing-percent=100',
  '--expose-gc',
]
/** SIGUSR1 would open a debugger's port. */
const nodeOptions = [...v8Options, '--disable-sigusr1']

const host = process.arch as Architecture
const architectures: readonly Architecture[] = process.argv.includes('--host') ? [host] : ['x64', 'arm64']

mkdirSync(work, { recursive: true })
mkdirSync(dist, { recursive: true })
for (const architecture of architectures) seedPkgCache(architecture)
await bundleSources()
for (const architecture of architectures) {
  compileNativeAddon(architecture, nodePackageOf(host), nativeAddonOf(architecture))
  makeCodeCache(architecture)
  await packExecutable(architecture)
}

async function bundleSources(): Promise<void> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const options = { ...bundleOptions({ version, commit: commitOf() }), outfile: join(work, 'edgemesh.cjs') }
  const { metafile } = await build({ ...options, metafile: true })
  writeFileSync(join(work, 'metafile.json'), JSON.stringify(metafile))
  const apacheText = readFileSync(join(root, 'LICENSE'), 'utf8')
  const packages = readPackages(root, packageFoldersOf(metafile), apacheText)
  const nodeLicense = readFileSync(join(nodePackageOf(host), 'LICENSE'), 'utf8').trim()
  const node = { name: 'Node.js', version: nodeVersion.slice(1), license: 'MIT and those below', text: nodeLicense }
  writeFileSync(join(work, 'licenses.txt'), renderLicenses([...packages, node]))
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
  const node = strippedNodeOf(architecture)
  const folder = join(node, '..', '..')
  if (existsSync(`${node}.ok`)) return
  ensureNode(architecture)
  mkdirSync(join(folder, 'bin'), { recursive: true })
  copyFileSync(join(nodePackageOf(architecture), 'bin', 'node'), node)
  execFileSync(`${toolPrefixOf(architecture)}strip`, [node])
  for (const sentinel of [`${folder}.tar.gz`, `${folder}.tar.gz.ok`, `${node}.ok`]) writeFileSync(sentinel, '')
}

function strippedNodeOf(architecture: Architecture): string {
  return join(cache, 'pkg-home', '.pkg-cache', 'sea', `node-${nodeVersion}-linux-${architecture}`, 'bin', 'node')
}

function nodePackageOf(architecture: Architecture): string {
  return join(cache, `toolchain-${architecture}`, 'node_modules', `node-linux-${architecture}`)
}

function ensureNode(architecture: Architecture): void {
  if (architecture === host) return
  const commands = `ensure_cross_build_commands && ensure_emulation_commands && ensure_node ${architecture}`
  execFileSync('bash', ['-c', `. "${root}scripts/lib.sh" && ${commands}`], { stdio: ['ignore', 'inherit', 'inherit'] })
}

/**
 * Compiles the bundle with the Node that will run it, under emulation for arm64. The cache saves an agent 6 MB and a
 * tenth of a second. Debian has no libraries for emulating x64, so an arm64 machine builds x64 without one.
 */
function makeCodeCache(architecture: Architecture): void {
  const emulator = architecture === host ? [] : ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu']
  const output = codeCacheOf(architecture)
  rmSync(output, { force: true })
  if (architecture !== host && architecture !== 'arm64') return
  const script = join(root, 'scripts', 'executable', 'make-code-cache.cjs')
  const argv = [...emulator, strippedNodeOf(architecture), ...v8Options, '--random-seed=1', script]
  const [command = '', ...args] = [...argv, join(work, 'edgemesh.cjs'), output]
  const { PATH } = process.env
  execFileSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], env: { PATH } })
}

function codeCacheOf(architecture: Architecture): string {
  return join(work, `code-cache-${architecture}`)
}

function nativeAddonOf(architecture: Architecture): string {
  return join(work, `edgemesh-${architecture}.node`)
}

async function packExecutable(architecture: Architecture): Promise<void> {
  const output = join(dist, `edgemesh-linux-${architecture}`)
  await packWithPkg(architecture, `${output}.new`)
  const { size } = statSync(`${output}.new`)
  if (size > limitBytes) throw new Error(`${output} has ${size} bytes, more than ${limitBytes}`)
  renameSync(`${output}.new`, output)
  process.stdout.write(`${output.slice(root.length)} ${(size / 1e6).toFixed(1)} MB\n`)
}

/**
 * pkg's command line cannot pass options to Node's own packer, so its module is called directly. It works in a temporary
 * folder, and the executable keeps the path of its first script as it is given: relative, to be the same everywhere.
 */
async function packWithPkg(architecture: Architecture, output: string): Promise<void> {
  Object.assign(process.env, { HOME: join(cache, 'pkg-home'), TMPDIR: work })
  const { default: pack } = createRequire(import.meta.url)('@yao-pkg/pkg/lib-es5/sea.js') as { default: Pack }
  const start = join(root, 'scripts', 'executable', 'start.cjs')
  await pack(start, {
    targets: [{ nodeRange: `node${nodeVersion.slice(1)}`, platform: 'linux', arch: architecture, output }],
    seaConfig: {
      main: relative(join(work, 'temporary'), start),
      disableExperimentalSEAWarning: true,
      useCodeCache: false,
      useSnapshot: false,
      execArgv: nodeOptions,
      // Node's options come from the command line (`--node-options=…`) and not from the environment.
      execArgvExtension: 'cli',
      assets: assetsOf(architecture),
    },
  })
}

/** Files that the executable carries, in the order of the blob; they are mapped, and cost memory when first read. */
function assetsOf(architecture: Architecture): Record<string, string> {
  const codeCache = codeCacheOf(architecture)
  return {
    'edgemesh.cjs': join(work, 'edgemesh.cjs'),
    ...(existsSync(codeCache) ? { 'code-cache': codeCache } : {}),
    'netlink.node': join(root, 'node_modules', 'netlink', 'prebuilds', `linux-${architecture}`, 'node.napi.node'),
    'edgemesh.node': nativeAddonOf(architecture),
    'licenses.txt': join(work, 'licenses.txt'),
  }
}

type Pack = (
  entry: string,
  options: {
    targets: { nodeRange: string; platform: string; arch: string; output: string }[]
    seaConfig: Record<string, unknown>
  },
) => Promise<void>
