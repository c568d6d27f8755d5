/**
 * The dependency graph of `src` as a test. It prints the same table as docs/architecture.md shows; a folder that
 * is missing here fails, so that a new folder is a decision.
 */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { mayImport, ownedBuiltins, pureFolders, renderGraph } from './architecture.ts'

interface Import {
  readonly file: string
  readonly from: string
  readonly target: string
}

const sourceDir = new URL('../src/', import.meta.url)

function folderOf(path: string): string {
  return path.split('/')[0] ?? path
}

function resolvedPathOf({ file, target }: Import): string {
  return new URL(target, new URL(file, sourceDir)).href.slice(sourceDir.href.length)
}

function readImports(): Import[] {
  return globSync('**/*.ts', { cwd: sourceDir })
    .filter((file) => !file.endsWith('.test.ts'))
    .flatMap((file) => {
      const source = readFileSync(new URL(file, sourceDir), 'utf8')
      const targets = source.matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)
      return [...targets].map((match) => ({ file, from: folderOf(file), target: match[1] ?? '' }))
    })
}

test('the sources are found', () => {
  assert.ok(readImports().length > 50)
})

test('folders import only what the architecture allows', () => {
  const violations = readImports()
    .filter(({ target }) => target.startsWith('.'))
    .flatMap((imported) => {
      const to = folderOf(resolvedPathOf(imported))
      if (to === imported.from || mayImport[imported.from]?.includes(to)) return []
      const allowed = mayImport[imported.from]?.join(', ')
      return [`${imported.file} imports ${to}, but ${imported.from} may import only: ${allowed ?? 'nothing'}`]
    })
  assert.deepEqual(violations, [])
})

test('other folders are reached through their index.ts, or config.ts for schemas', () => {
  const violations = readImports().filter((imported) => {
    if (!imported.target.startsWith('.')) return false
    const path = resolvedPathOf(imported)
    if (folderOf(path) === imported.from) return false
    return !/^[^/]+\/(index|config)\.ts$/.test(path) && !(imported.from === 'cli' && path.startsWith('commands/'))
  })
  assert.deepEqual(
    violations.map(({ file, target }) => `${file} imports ${target}`),
    [],
  )
})

test('side effects stay in the folders that own them', () => {
  const violations = readImports().filter(
    ({ from, target }) =>
      target.startsWith('node:') &&
      (pureFolders.includes(from) || (ownedBuiltins[target] !== undefined && !ownedBuiltins[target].includes(from))),
  )
  assert.deepEqual(
    violations.map(({ file, target }) => `${file} imports ${target}`),
    [],
  )
})

test('every folder opens with a module comment that says what it is for', () => {
  const undocumented = globSync('*/index.ts', { cwd: sourceDir }).filter(
    (file) => !/^\/\*\*[\s\S]*?@module/.test(readFileSync(new URL(file, sourceDir), 'utf8')),
  )
  assert.deepEqual(undocumented, [])
})

test('no file is longer than 400 lines', () => {
  const long = globSync('**/*.ts', { cwd: sourceDir })
    .map((file) => ({ file, lines: readFileSync(new URL(file, sourceDir), 'utf8').split('\n').length }))
    .filter(({ file, lines }) => lines > 400 && !file.endsWith('.test.ts'))
  assert.deepEqual(long, [])
})

test('docs/architecture.md shows this graph', () => {
  const document = readFileSync(new URL('../docs/architecture.md', import.meta.url), 'utf8')
  assert.ok(document.includes(renderGraph()), `docs/architecture.md must contain:\n${renderGraph()}`)
})
