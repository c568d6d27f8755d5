/** The real executables of both architectures; arm64 runs under qemu-user. */
import assert from 'node:assert/strict'
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
const emulator = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu']
let folder = ''

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-binary-'))
})
after(() => rmSync(folder, { recursive: true, force: true }))

function run(
  architecture: 'x64' | 'arm64',
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): SpawnSyncReturns<string> {
  const executable = join(root, 'dist', `edgemesh-linux-${architecture}`)
  const command = architecture === process.arch ? [executable] : [...emulator, executable]
  const [file = '', ...rest] = [...command, ...args]
  return spawnSync(file, rest, { encoding: 'utf8', timeout: 60_000, env: { PATH: process.env['PATH'], ...env } })
}

for (const architecture of ['x64', 'arm64'] as const) {
  test(`${architecture}: is at most 115 MB`, () => {
    assert.ok(statSync(join(root, 'dist', `edgemesh-linux-${architecture}`)).size <= 115_000_000)
  })

  test(`${architecture}: --version tells version, commit, Node and platform`, () => {
    const { stdout, stderr, status } = run(architecture, ['--version'])
    assert.equal(status, 0, stderr)
    assert.match(
      stdout,
      new RegExp(
        `^edgemesh ${version} \\(commit [0-9a-f]{12}(-dirty)?, node v24\\.21\\.0, linux-${architecture}\\)\n$`,
      ),
    )
    assert.equal(stderr, '')
  })

  test(`${architecture}: check-config accepts a good file and names what is wrong in a bad one`, () => {
    const good = join(folder, `good-${architecture}.yaml`)
    const bad = join(folder, `bad-${architecture}.yaml`)
    writeFileSync(good, 'kind: EdgeMeshAgent\nmodules:\n  edgeDNS:\n    listenPort: 5353\n')
    writeFileSync(bad, 'kind: EdgeMeshAgent\nmodules:\n  edgeDNS:\n    listenPrt: 5353\n')
    assert.equal(run(architecture, ['check-config', good]).status, 0)
    const { status, stderr, stdout } = run(architecture, ['check-config', bad])
    assert.equal(status, 78)
    assert.match(stdout + stderr, /bad-\w+\.yaml:4:5: modules\.edgeDNS\.listenPrt/)
  })
}

test('Node options from the environment are not honoured', () => {
  const intruder = join(folder, 'intruder.cjs')
  writeFileSync(intruder, 'process.stdout.write("intruder\\n")')
  const { stdout } = run(process.arch as 'x64', ['--version'], { NODE_OPTIONS: `--require ${intruder}` })
  assert.doesNotMatch(stdout, /intruder/)
})
