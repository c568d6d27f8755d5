/** Everything that is inside the executable has its licence inside it, and none that forbids that. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { Metafile } from 'esbuild'
import { readPackages, renderLicenses } from '../../scripts/executable/licenses.ts'
import { hostArchitecture, root, runExecutable } from './executables.ts'

const metafile = JSON.parse(readFileSync(join(root, '.cache', 'build', 'metafile.json'), 'utf8')) as Metafile

/** Name and version from the nearest package.json that has both: some packages have inner ones with neither. */
function packageOf(input: string): string {
  for (let folder = dirname(join(root, input)); folder !== root; folder = dirname(folder)) {
    const file = join(folder, 'package.json')
    if (!existsSync(file)) continue
    const { name, version } = JSON.parse(readFileSync(file, 'utf8'))
    if (name && version) return `${name} ${version}`
  }
  throw new Error(`${input} belongs to no package`)
}

suite('edgemesh licenses', () => {
  const { stdout, status } = runExecutable(hostArchitecture, ['licenses'])
  const listed = [...stdout.matchAll(/^ {2}(\S+ \S+): (.+)$/gm)].map(([, id, license]) => ({ id, license }))

  test('lists every package with a file in the bundle, and Node.js', () => {
    assert.equal(status, 0)
    const inputs = Object.keys(metafile.inputs).filter((input) => input.includes('node_modules/'))
    assert.ok(inputs.length > 500)
    const bundled = new Set(inputs.filter((input) => isInOutput(input)).map(packageOf))
    const ids = listed.map(({ id }) => id)
    assert.deepEqual(
      [...bundled].filter((id) => !ids.includes(id)),
      [],
    )
    assert.ok(ids.includes('Node.js 24.21.0'))
  })

  test('names no licence that is unknown or asks for the source', () => {
    assert.deepEqual(
      listed.filter(({ license = '' }) => !/^(MIT|ISC|Apache-2\.0|0BSD|BSD-[23]-Clause|Unlicense)\b/.test(license)),
      [],
    )
  })

  test('has the texts, also of what Node.js contains, and all of them through a pipe', () => {
    for (const text of ['Permission is hereby granted, free of charge', 'Apache License', 'OpenSSL', 'V8', 'ICU']) {
      assert.ok(stdout.includes(text), text)
    }
    assert.equal(stdout, readFileSync(join(root, '.cache', 'build', 'licenses.txt'), 'utf8'))
  })
})

function isInOutput(input: string): boolean {
  return Object.values(metafile.outputs).some(({ inputs }) => input in inputs)
}

suite('the build', () => {
  let folder = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'edgemesh-licenses-'))
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  function writePackage(name: string, license: unknown, files: Record<string, string> = {}): string {
    mkdirSync(join(folder, name))
    writeFileSync(join(folder, name, 'package.json'), JSON.stringify({ name, version: '1.0.0', license }))
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, name, file), text)
    return name
  }

  test('refuses a licence that nobody has decided about', () => {
    for (const [name, license] of Object.entries({ gpl: 'GPL-3.0-only', agpl: 'AGPL-3.0', none: undefined })) {
      const written = writePackage(name, license, { LICENSE: 'text' })
      assert.throws(
        () => readPackages(folder, [written], 'apache'),
        new RegExp(`^Error: ${name} 1.0.0 has the licence`),
      )
    }
  })

  test('refuses a package without the text that its licence asks for', () => {
    const written = writePackage('bare', 'MIT')
    assert.throws(() => readPackages(folder, [written], 'apache'), /bare 1\.0\.0 has no file with its licence/)
  })

  test('prints a text once for all that share it, with notices, and the standard one where there is none', () => {
    const names = [
      writePackage('a', 'MIT', { LICENSE: 'same' }),
      writePackage('b', '(MIT OR GPL-2.0)', { 'license.md': 'same' }),
      writePackage('c', 'Apache-2.0', { LICENSE: 'own', NOTICE: 'notice' }),
      writePackage('d', 'Apache-2.0 OR MIT'),
    ]
    const text = renderLicenses(readPackages(folder, names, 'standard'))
    assert.deepEqual(
      text.split('\n').filter((line) => line !== '' && !line.startsWith('  ') && !line.startsWith('---')),
      [
        'edgemesh is licensed under Apache-2.0. Inside it are:',
        ...['a 1.0.0: MIT', 'b 1.0.0: (MIT OR GPL-2.0)', 'same'],
        ...['c 1.0.0: Apache-2.0', 'own', 'notice'],
        ...['d 1.0.0: Apache-2.0 OR MIT', 'standard'],
      ],
    )
  })
})
