import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createCatalog } from '../../catalog/index.ts'
import { type LogFields, type Logger, silentLogger } from '../../observability/index.ts'
import { ManifestsDirectoryError, startManifestsSource } from '../index.ts'

const service = (name: string, ip = '10.96.0.1') =>
  `{apiVersion: v1, kind: Service, metadata: {name: ${name}}, spec: {clusterIP: ${ip}, ports: [{port: 80}]}}\n`

/** A folder, a source that follows it, and a catalog to see what it delivers. */
async function startFolder(files: Readonly<Record<string, string>>, pollMs?: number) {
  await using starting = new AsyncDisposableStack()
  const parent = await mkdtemp(join(tmpdir(), 'manifests-'))
  starting.defer(() => rm(parent, { recursive: true }))
  const directory = join(parent, 'folder')
  await mkdir(directory)
  const write = (name: string, text: string) => writeFile(join(directory, name), text)
  for (const [name, text] of Object.entries(files)) await write(name, text)
  const warnings: LogFields[] = []
  const logger: Logger = { ...silentLogger, warn: (fields) => warnings.push(fields), child: () => logger }
  const catalog = starting.use(createCatalog({ debounceMs: 1 }))
  const source = starting.use(
    await startManifestsSource({ directory, sink: catalog, logger, ...(pollMs === undefined ? {} : { pollMs }) }),
  )
  const names = () =>
    [...catalog.current.services.values()].map(({ name, clusterIPs }) => `${name} ${clusterIPs[0]}`).sort()
  /** Resolves when the catalog holds exactly these, or fails with what it holds after five seconds. */
  const holds = async (...expected: string[]) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, 5000)
    using _subscription = catalog.subscribe(() => names().join() === expected.join() && resolve())
    await promise
    clearTimeout(timer)
    assert.deepEqual(names(), expected)
  }
  /** Resolves when the condition holds, asked again with each turn of a short timer; bounded. */
  const until = async (condition: () => boolean) => {
    for (let turn = 0; turn < 500 && !condition(); turn++) await new Promise((resolve) => setTimeout(resolve, 10))
    assert.ok(condition())
  }
  const running = starting.move()
  return {
    directory,
    write,
    warnings,
    catalog,
    source,
    names,
    holds,
    until,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

test('the source has read everything when it starts', async () => {
  await using folder = await startFolder({
    'a.yaml': service('a'),
    'b.json': JSON.stringify({ kind: 'List', items: [] }),
  })
  assert.ok(folder.catalog.isSynced)
  assert.deepEqual(folder.names(), ['a 10.96.0.1'])
  assert.deepEqual(folder.source.status(), { kind: 'manifests', directory: folder.directory, files: 2, errors: [] })
})

test('dotfiles, subfolders and other file types are not read', async () => {
  await using folder = await startFolder({ '.a.yaml': service('a'), 'b.txt': service('b'), 'c.yaml~': service('c') })
  await mkdir(join(folder.directory, 'd.yaml'))
  await writeFile(join(folder.directory, 'd.yaml', 'e.yaml'), service('e'))
  await folder.write('f.yml', service('f'))
  await folder.holds('f 10.96.0.1')
  assert.deepEqual([folder.source.status().files, folder.warnings], [1, []])
})

test('a folder that is missing at start, or no folder, is an error of its own', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a') })
  const sink = createCatalog()
  for (const directory of [join(folder.directory, 'nothing'), join(folder.directory, 'a.yaml')]) {
    await assert.rejects(startManifestsSource({ directory, sink, logger: silentLogger }), (error) => {
      assert.ok(error instanceof ManifestsDirectoryError)
      assert.equal(error.directory, directory)
      return true
    })
  }
  const signal = AbortSignal.abort(new Error('enough'))
  const { directory } = folder
  await assert.rejects(startManifestsSource({ directory, sink, logger: silentLogger, signal }), /enough/)
})

test('files that are changed in place, added, and deleted are followed', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a') })
  await folder.write('a.yaml', service('a', '10.96.0.2'))
  await folder.holds('a 10.96.0.2')
  await folder.write('b.yaml', service('b'))
  await folder.holds('a 10.96.0.2', 'b 10.96.0.1')
  await rm(join(folder.directory, 'a.yaml'))
  await folder.holds('b 10.96.0.1')
})

test('an editor that writes a copy and renames it is followed', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a') })
  await folder.write('.a.yaml.swp', service('a', '10.96.0.3'))
  await rename(join(folder.directory, '.a.yaml.swp'), join(folder.directory, 'a.yaml'))
  await folder.holds('a 10.96.0.3')
})

test('a ConfigMap volume, whose files are links that all change at once, is followed', async () => {
  await using folder = await startFolder({})
  const { directory } = folder
  for (const [version, ip] of [
    ['1', '10.96.0.1'],
    ['2', '10.96.0.2'],
  ] as const) {
    await mkdir(join(directory, `..${version}`))
    await writeFile(join(directory, `..${version}`, 'a.yaml'), service('a', ip))
  }
  await symlink('..1', join(directory, '..data'))
  await symlink('..data/a.yaml', join(directory, 'a.yaml'))
  await folder.holds('a 10.96.0.1')
  await symlink('..2', join(directory, '..data_tmp'))
  await rename(join(directory, '..data_tmp'), join(directory, '..data'))
  await folder.holds('a 10.96.0.2')
})

test('while the folder is away its objects stay; when it is back it is followed again', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a') }, 20)
  await rename(folder.directory, `${folder.directory}-away`)
  await folder.until(() => folder.source.status().errors.length > 0)
  assert.deepEqual(folder.names(), ['a 10.96.0.1'])
  assert.equal(folder.warnings.length, 1)
  await mkdir(folder.directory)
  await folder.write('b.yaml', service('b'))
  await folder.holds('b 10.96.0.1')
  await folder.write('b.yaml', service('b', '10.96.0.2'))
  await folder.holds('b 10.96.0.2')
  assert.deepEqual([folder.source.status().errors, folder.warnings.length], [[], 1])
})

test('a broken file is reported once by name and line; its last good objects and other files stay in force', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a'), 'b.yaml': service('b') }, 20)
  await folder.write('a.yaml', `# broken\n${service('a', 'nowhere')}`)
  await folder.until(() => folder.source.status().errors.length > 0)
  await folder.write('b.yaml', service('b', '10.96.0.2'))
  await folder.holds('a 10.96.0.1', 'b 10.96.0.2')
  const reason = 'spec.clusterIP: must be an IP address, found "nowhere"'
  assert.deepEqual(folder.source.status().errors, [{ file: 'a.yaml', line: 2, message: reason }])
  assert.deepEqual(folder.warnings, [{ file: 'a.yaml:2', reason }])
  await folder.write('a.yaml', service('a', '10.96.0.9'))
  await folder.holds('a 10.96.0.9', 'b 10.96.0.2')
  assert.deepEqual(folder.source.status().errors, [])
})

test('a link that points nowhere is reported', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a') })
  await symlink('nowhere.yaml', join(folder.directory, 'b.yaml'))
  await folder.until(() => folder.source.status().errors.length > 0)
  const [error] = folder.source.status().errors
  assert.deepEqual([error?.file, error?.line], ['b.yaml', 0])
  assert.match(error?.message ?? '', /ENOENT/)
})

test('an object that two files define is warned about once', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a'), 'b.yaml': service('a', '10.96.0.2') })
  await folder.write('c.yaml', service('c'))
  await folder.holds('a 10.96.0.2', 'c 10.96.0.1')
  assert.deepEqual(folder.warnings, [{ file: 'b.yaml', reason: 'Service default/a is also in a.yaml' }])
})

test('a disposed source follows nothing any more', async () => {
  await using folder = await startFolder({ 'a.yaml': service('a') }, 10)
  await folder.source[Symbol.asyncDispose]()
  await folder.write('a.yaml', service('a', '10.96.0.2'))
  await new Promise((resolve) => setTimeout(resolve, 100))
  assert.deepEqual(folder.names(), ['a 10.96.0.1'])
})
