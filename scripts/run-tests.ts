/**
 * Runs one group of tests with Node's runner and fails when nothing ran or anything was skipped, which the
 * runner itself reports as success: `run-tests.ts GROUP [FILE...]`.
 */
import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import process from 'node:process'
import { pipeline } from 'node:stream/promises'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

interface TestGroup {
  readonly files: readonly string[]
  readonly concurrency: number
  readonly timeoutMs: number
  /** The files of a folder run one after the other in one process: to start one for each takes longer than most of them. */
  readonly isByFolder?: boolean
}

const groups: Record<string, TestGroup> = {
  unit: {
    files: ['test/*.test.ts', 'src/**/*.test.ts'],
    concurrency: 4,
    timeoutMs: 120_000,
    isByFolder: true,
  },
  integration: { files: ['test/integration/**/*.test.ts'], concurrency: 4, timeoutMs: 60_000 },
  e2e: { files: ['test/e2e/**/*.test.ts'], concurrency: 1, timeoutMs: 600_000 },
  binary: { files: ['test/binary/**/*.test.ts'], concurrency: 1, timeoutMs: 300_000 },
}

const [name = '', ...only] = process.argv.slice(2)
const group = groups[name]
if (group === undefined) throw new Error(`unknown test group "${name}"; known: ${Object.keys(groups).join(', ')}`)
const files = only.length > 0 ? only : group.files.flatMap((pattern) => globSync(pattern).sort())

/** One module for each folder, which imports the test files of that folder. */
function writeFolderModules(into: string): string[] {
  return [...Map.groupBy(files, (file) => dirname(file))].map(([folder, tests]) => {
    const path = join(into, `${folder.replaceAll('/', '-')}.mjs`)
    writeFileSync(path, tests.map((file) => `import ${JSON.stringify(resolve(file))}\n`).join(''))
    return path
  })
}

const folderModules = group.isByFolder ? mkdtempSync(join(tmpdir(), 'edgemesh-tests-')) : undefined
process.on('exit', () => folderModules && rmSync(folderModules, { recursive: true, force: true }))
const modules = folderModules === undefined ? files : writeFolderModules(folderModules)

const counts = { passed: 0, failed: 0, skipped: 0 }
const stall = new AbortController()
const stream = run({ files: modules, concurrency: group.concurrency, timeout: group.timeoutMs, signal: stall.signal })
stream.on('test:pass', (event) => {
  if (event.details.type === 'suite') return
  if (event.skip !== undefined || event.todo !== undefined) counts.skipped += 1
  else counts.passed += 1
})
stream.on('test:fail', ({ details }) => {
  // A suite that fails only because a test in it does is not one more failure.
  const failureType = 'failureType' in details.error ? details.error.failureType : undefined
  if (details.type !== 'suite' || failureType !== 'subtestsFailed') counts.failed += 1
})

// A file whose process neither ends nor reports anything would keep the run for ever.
const running = new Set<string>()
let lastEventAt = Date.now()
stream.on('test:start', ({ file = '' }) => {
  running.add(file)
  lastEventAt = Date.now()
})
stream.on('test:complete', ({ file = '', name: title }) => {
  if (title === file || file.endsWith(title)) running.delete(file)
  lastEventAt = Date.now()
})
const watchdog = setInterval(() => {
  if (Date.now() - lastEventAt < group.timeoutMs + 30_000 || stall.signal.aborted) return
  process.stdout.write(`${name}: no test ended for ${group.timeoutMs / 1000 + 30} s; started last:\n`)
  process.stdout.write(`${[...running].slice(-group.concurrency).join('\n')}\n`)
  counts.failed += 1
  stall.abort()
  setTimeout(() => process.exit(1), 10_000).unref()
}, 5_000)
await pipeline(stream.compose(new spec()), process.stdout, { end: false })
clearInterval(watchdog)

process.stdout.write(`${name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`)
if (counts.passed === 0) process.stdout.write(`${name}: no test ran\n`)
process.exitCode = counts.failed === 0 && counts.skipped === 0 && counts.passed > 0 ? 0 : 1
