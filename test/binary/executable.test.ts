/** The real executables of both architectures; arm64 runs under qemu-user. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { architectures, executableOf, root, runCommand, runExecutable } from './executables.ts'

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
let folder = ''

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-binary-'))
})
after(() => rmSync(folder, { recursive: true, force: true }))

/** The highest version of a library's interface that the executable asks for: 28 of GLIBC_2.28. */
function highestVersion(symbolVersions: string, pattern: RegExp): number {
  return Math.max(...[...symbolVersions.matchAll(pattern)].map((match) => Number(match[1])))
}

for (const architecture of architectures) {
  test(`${architecture}: is at most 115 MB`, () => {
    assert.ok(statSync(executableOf(architecture)).size <= 115_000_000)
  })

  test(`${architecture}: --version tells version, commit, Node and platform`, () => {
    const { stdout, stderr, status } = runExecutable(architecture, ['--version'])
    assert.equal(status, 0, stderr)
    assert.match(
      stdout,
      new RegExp(
        `^edgemesh ${version} \\(commit [0-9a-f]{12}(-dirty)?, node v24\\.21\\.0, linux-${architecture}\\)\n$`,
      ),
    )
    assert.equal(stderr, '')
  })

  test(`${architecture}: starts from the code cache`, () => {
    const env = { EDGEMESH_DEBUG: '1' }
    assert.equal(runExecutable(architecture, ['--version'], env).stderr, '')
    // Other V8 flags than those of the build show that a cache that is not used would be told.
    const other = runExecutable(architecture, ['--node-options=--stack-size=900', '--version'], env)
    assert.equal(other.stderr, 'code cache not used\n')
    assert.match(other.stdout, /^edgemesh /)
  })

  test(`${architecture}: check-config accepts a good file and names what is wrong in a bad one`, () => {
    const good = join(folder, `good-${architecture}.yaml`)
    const bad = join(folder, `bad-${architecture}.yaml`)
    writeFileSync(good, 'kind: EdgeMeshAgent\nmodules:\n  edgeDNS:\n    listenPort: 5353\n')
    writeFileSync(bad, 'kind: EdgeMeshAgent\nmodules:\n  edgeDNS:\n    listenPrt: 5353\n')
    assert.equal(runExecutable(architecture, ['check-config', good]).status, 0)
    const { status, stderr, stdout } = runExecutable(architecture, ['check-config', bad])
    assert.equal(status, 78)
    assert.match(stdout + stderr, /bad-\w+\.yaml:4:5: modules\.edgeDNS\.listenPrt/)
  })

  test(`${architecture}: needs glibc 2.28, libstdc++ and libgcc, and nothing else`, () => {
    const { stdout, status } = runCommand([
      'readelf',
      '--dynamic',
      '--version-info',
      '--wide',
      executableOf(architecture),
    ])
    assert.equal(status, 0)
    const needed = [...stdout.matchAll(/\(NEEDED\).*\[(.+?)\.so/g)].map((match) => match[1])
    const known = [
      'libdl',
      'libstdc++',
      'libm',
      'libgcc_s',
      'libpthread',
      'libc',
      'ld-linux-x86-64',
      'ld-linux-aarch64',
    ]
    assert.deepEqual(
      needed.filter((library = '') => !known.includes(library)),
      [],
    )
    assert.ok(needed.includes('libc'))
    assert.equal(highestVersion(stdout, /Name: GLIBC_2\.(\d+)/g), 28)
    assert.ok(highestVersion(stdout, /Name: GLIBCXX_3\.4\.(\d+)/g) <= 25, 'libstdc++ of Debian 10')
  })
}

test('no path of the machine that built it is in the executable', () => {
  const bundle = readFileSync(join(root, '.cache', 'build', 'edgemesh.cjs'), 'latin1')
  assert.ok(!bundle.includes(root))
  for (const architecture of architectures) assert.equal(readFileSync(executableOf(architecture)).indexOf(root), -1)
})
