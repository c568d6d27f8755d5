import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { gunzipSync, gzipSync } from 'node:zlib'
import { createCatalog, type ObjectLists, objectKinds, parseStoredObjects } from '../catalog/index.ts'
import { sampleService } from '../catalog/samples.ts'
import { type LogFields, type Logger, silentLogger } from '../observability/index.ts'
import { type CatalogMemoryOptions, startCatalogMemory } from './catalog-memory.ts'

let folder = ''
let stateDir = ''
let file = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-memory-'))
  stateDir = join(folder, 'agent')
  file = join(stateDir, 'catalog.json.gz')
})
afterEach(() => rmSync(folder, { recursive: true }))

const serviceOf = (name: string) => sampleService({ name })

const listsOf = (...names: readonly string[]): ObjectLists => ({
  services: names.map(serviceOf),
  endpointSlices: [],
  nodes: [],
})

interface Line {
  readonly level: string
  readonly message: string
  readonly fields: LogFields
}

async function startMemory(options: Partial<CatalogMemoryOptions> = {}) {
  const lines: Line[] = []
  const write = (level: string) => (fields: LogFields, message: string) => void lines.push({ level, message, fields })
  const logger: Logger = { ...silentLogger, info: write('info'), warn: write('warn'), error: write('error') }
  const catalog = createCatalog({ debounceMs: 0 })
  const memory = await startCatalogMemory({ catalog, stateDir, logger, delayMs: 60_000, ...options })
  const list = (lists: ObjectLists) => {
    for (const kind of objectKinds) catalog.replace(kind, (lists[kind] ?? []) as never)
  }
  const names = () => [...catalog.current.services.values()].map(({ name }) => name)
  return { catalog, memory, lines, list, names, stop: () => memory[Symbol.asyncDispose]() }
}

const levelsOf = (lines: readonly Line[]) => lines.map(({ level }) => level)
const storedNames = () =>
  parseStoredObjects(gunzipSync(readFileSync(file)).toString()).objects.services?.map(({ name }) => name)

async function storeServices(...names: readonly string[]): Promise<void> {
  const { list, stop } = await startMemory()
  list(listsOf(...names))
  await stop()
}

suite('the memory of a catalog', () => {
  test('has nothing at the first start, and says nothing about it', async () => {
    const { catalog, memory, lines, stop } = await startMemory()
    assert.deepEqual([catalog.isSynced, lines, memory.status()], [false, [], {}])
    await stop()
    assert.throws(() => statSync(file), { code: 'ENOENT' })
  })

  test('gives the next run what this one knew, before any source speaks', async () => {
    await storeServices('a', 'b')
    const { catalog, lines, names, stop } = await startMemory()
    assert.deepEqual([catalog.isSynced, catalog.isListed, names()], [true, false, ['a', 'b']])
    assert.deepEqual([levelsOf(lines), lines[0]?.fields.count], [['info'], 2])
    await stop()
    assert.equal(statSync(file).mode & 0o777, 0o600)
  })

  test('knows the age of what it gave until the source has listed everything', async () => {
    const at = (ms: number) => ({ now: () => 1_700_000_000_000 + ms })
    const first = await startMemory(at(0))
    first.list(listsOf('a'))
    await first.stop()
    const { memory, list, stop } = await startMemory(at(90_000))
    assert.deepEqual(memory.status(), { ageSeconds: 90 })
    list(listsOf('a'))
    assert.deepEqual(memory.status(), {})
    await stop()
    const { memory: behind, stop: stopAgain } = await startMemory(at(-5_000))
    assert.deepEqual(behind.status(), { ageSeconds: 0 })
    await stopAgain()
  })

  test('does not write what is only half replaced, because the file is better', async () => {
    await storeServices('a')
    const { catalog, stop } = await startMemory({ delayMs: 0 })
    catalog.replace('services', [])
    await new Promise(setImmediate)
    await stop()
    assert.deepEqual(storedNames(), ['a'])
  })

  test('gathers changes, and writes the last of them at the stop', async () => {
    const { catalog, list, stop } = await startMemory()
    list(listsOf('a'))
    for (const name of ['b', 'c', 'd']) catalog.put('services', serviceOf(name))
    assert.throws(() => statSync(file), { code: 'ENOENT' })
    await stop()
    assert.deepEqual(storedNames(), ['a', 'b', 'c', 'd'])
  })

  test('writes while it runs, again after every change', async (t) => {
    const { catalog, list, stop } = await startMemory({ delayMs: 1 })
    list(listsOf('a'))
    await t.waitFor(() => assert.deepEqual(storedNames(), ['a']))
    catalog.put('services', serviceOf('b'))
    await t.waitFor(() => assert.deepEqual(storedNames(), ['a', 'b']))
    await stop()
  })

  test('does not write again when nothing changed', async () => {
    await storeServices('a')
    const before = statSync(file).ino
    const { stop } = await startMemory({ delayMs: 0 })
    await stop()
    assert.equal(statSync(file).ino, before)
  })
})

suite('a damaged file', () => {
  async function expectSetAside(content: Uint8Array, what: string): Promise<void> {
    writeFileSync(file, content)
    const { catalog, lines, list, names, stop } = await startMemory()
    assert.deepEqual([catalog.isSynced, levelsOf(lines)], [false, ['warn']], what)
    assert.match(String(lines[0]?.fields.remedy), /is kept as .*catalog\.json\.gz\.damaged$/, what)
    assert.deepEqual(readFileSync(`${file}.damaged`), Buffer.from(content), what)
    list(listsOf('fresh'))
    await stop()
    assert.deepEqual([names(), storedNames()], [['fresh'], ['fresh']], what)
  }

  test('is set aside with one warning at any length it was cut to, and the mesh goes on', async () => {
    await storeServices('a', 'b')
    const whole = readFileSync(file)
    for (let length = 0; length < whole.length; length += 3) {
      await expectSetAside(whole.subarray(0, length), `${length} of ${whole.length} bytes`)
    }
  })

  test('never gives other objects than were stored, whichever bit of it flips', async () => {
    await storeServices('a', 'b')
    const whole = readFileSync(file)
    let refused = 0
    for (let bit = 0; bit < whole.length * 8; bit += 5) {
      const flipped = Uint8Array.from(whole)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      writeFileSync(file, flipped)
      const { catalog, names, stop } = await startMemory()
      if (catalog.isSynced) assert.deepEqual(names(), ['a', 'b'], `bit ${bit}`)
      else refused += 1
      await stop()
    }
    // Only bits of the date and of the system in gzip's header mean nothing.
    assert.ok(refused > (whole.length - 10) * 1.5, `${refused} refused`)
  })

  test('is set aside when it is of another version, or none of ours', async () => {
    mkdirSync(stateDir)
    for (const text of [
      '{"version":99,"savedAt":1}',
      '{"version":1}',
      '{"version":1,"savedAt":1,"services":[{}]}',
      '[]',
    ]) {
      await expectSetAside(gzipSync(text), text)
    }
    await expectSetAside(Buffer.alloc(4096), 'zeros, as a power cut leaves them')
    await expectSetAside(Buffer.from('{"version":1,"savedAt":1}'), 'not compressed')
  })

  test('that cannot even be set aside is no reason to fail', async () => {
    writeFileSync(stateDir, 'a file where the folder should be')
    const { catalog, lines, stop } = await startMemory()
    assert.deepEqual([catalog.isSynced, levelsOf(lines)], [false, ['warn']])
    assert.match(String(lines[0]?.fields.remedy), /stays where it is/)
    await stop()
  })
})

suite('a disk that cannot be written', () => {
  /** Root may write everywhere, but not into a folder that is a file. */
  async function startWithoutDisk() {
    mkdirSync(folder, { recursive: true })
    const started = await startMemory({ delayMs: 1, retryMs: 1 })
    writeFileSync(stateDir, '')
    started.list(listsOf('a'))
    return started
  }

  test('is warned of once, shown in the status, and tried again until it works', async (t) => {
    const { catalog, memory, lines, stop } = await startWithoutDisk()
    await t.waitFor(() => assert.match(memory.status().problem ?? '', /a file is in its place|it is a file/))
    for (const name of ['b', 'c']) {
      catalog.put('services', serviceOf(name))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    assert.deepEqual(levelsOf(lines), ['warn'])
    rmSync(stateDir)
    await t.waitFor(() => assert.deepEqual(storedNames(), ['a', 'b', 'c']))
    await t.waitFor(() => assert.deepEqual([memory.status(), levelsOf(lines)], [{}, ['warn', 'info']]))
    await stop()
    assert.deepEqual(readdirSync(stateDir), ['catalog.json.gz'])
  })

  test('does not keep the process from stopping', async (t) => {
    const { memory, stop } = await startWithoutDisk()
    await t.waitFor(() => assert.ok(memory.status().problem))
    await stop()
  })
})
