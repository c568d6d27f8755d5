/** The same sources give the same bytes, wherever and whenever they are built. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { after, test } from 'node:test'
import { architectures, root } from './executables.ts'

/** On the file system of the sources, so that packages can be linked instead of copied. */
const work = join(root, '.cache')
const folders: string[] = []
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

function git(...args: string[]): string {
  return execFileSync('git', ['-c', `safe.directory=${root.replace(/\/$/, '')}`, ...args], {
    cwd: root,
    encoding: 'utf8',
  })
}

/** The sources as they are, their history for the commit in --version, and the packages that are installed. */
function copySources(name: string): string {
  const copy = mkdtempSync(join(work, `${name}-`))
  folders.push(copy)
  const files = git('ls-files', '-z', '--cached', '--others', '--exclude-standard').split('\0').filter(Boolean)
  for (const file of files.filter((candidate) => existsSync(join(root, candidate)))) {
    mkdirSync(dirname(join(copy, file)), { recursive: true })
    cpSync(join(root, file), join(copy, file))
  }
  cpSync(join(root, '.git'), join(copy, '.git'), { recursive: true })
  mkdirSync(join(copy, '.cache'))
  const installed = ['pkg-home', ...architectures.map((architecture) => `toolchain-${architecture}`)]
  for (const folder of ['node_modules', ...installed.map((cached) => join('.cache', cached))]) {
    execFileSync('cp', ['-al', join(root, folder), join(copy, folder)])
  }
  return copy
}

function hashesOfBuildIn(folder: string): string[] {
  execFileSync(process.execPath, ['scripts/build.ts'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
  return architectures.map((architecture) => {
    const bytes = readFileSync(join(folder, 'dist', `edgemesh-linux-${architecture}`))
    return createHash('sha256').update(bytes).digest('hex')
  })
}

test('two builds in different folders give equal executables for both architectures', { timeout: 120_000 }, () => {
  const first = hashesOfBuildIn(copySources('first'))
  const second = hashesOfBuildIn(copySources('second-in-a-longer-folder'))
  assert.deepEqual(second, first)
})
