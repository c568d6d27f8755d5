import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { checkFiles } from './check-files.ts'
import { parseConfig } from './load-config.ts'
import { ConfigError } from './problem.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-files-'))
  chmodSync(folder, 0o755)
})
afterEach(() => rmSync(folder, { recursive: true }))

/** What is wrong with the files of this document, with DIR for the test's folder. */
function complaintsOf(text: string): string[] {
  const loaded = parseConfig('agent', text.replaceAll('DIR', folder), 'a.yaml', { NODE_NAME: 'edge-a1' })
  try {
    checkFiles(loaded)
    return []
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.message.replaceAll(folder, 'DIR').split('\n')
  }
}

function writeKey(content: string, mode: number): string {
  const file = join(folder, 'psk')
  writeFileSync(file, content)
  chmodSync(file, mode)
  return file
}

const withKey = 'modules:\n  edgeTunnel:\n    enable: true\n    psk:\n      path: DIR/psk\n'

suite('the pre-shared key', () => {
  test('that only its owner can read is taken, also through a symlink', () => {
    const file = writeKey('key', 0o600)
    assert.deepEqual(complaintsOf(withKey), [])
    symlinkSync(file, join(folder, 'link'))
    assert.deepEqual(complaintsOf(withKey.replace('DIR/psk', 'DIR/link')), [])
  })

  test('that is missing is named with how to make one', () => {
    assert.deepEqual(complaintsOf(withKey), [
      'a.yaml:5:7: modules.edgeTunnel.psk.path: DIR/psk does not exist; write one: (umask 077; openssl rand -base64 32 > DIR/psk), the same on all nodes',
    ])
  })

  test('that is missing where it is looked for by default is named at the closest key', () => {
    const [line = ''] = complaintsOf('modules:\n  edgeTunnel:\n    enable: true\n    psk: { path: /nonexistent/psk }\n')
    assert.match(line, /^a\.yaml:4:12: modules\.edgeTunnel\.psk\.path: \/nonexistent\/psk does not exist; /)
  })

  test('that is empty or blank is refused', () => {
    for (const content of ['', ' \n']) {
      writeKey(content, 0o600)
      assert.deepEqual(complaintsOf(withKey), [
        'a.yaml:5:7: modules.edgeTunnel.psk.path: DIR/psk is empty; write one: (umask 077; openssl rand -base64 32 > DIR/psk), the same on all nodes',
      ])
    }
  })

  test('that every user can read is refused, naming chmod', () => {
    writeKey('key', 0o644)
    assert.deepEqual(complaintsOf(withKey), [
      'a.yaml:5:7: modules.edgeTunnel.psk.path: DIR/psk can be read by every user; run chmod 600 DIR/psk (for a Kubernetes volume, set defaultMode: 0600)',
    ])
  })

  test('that this user may not read is named', () => {
    writeKey('key', 0o600)
    const isRoot = process.geteuid?.() === 0
    if (isRoot) process.seteuid?.(65534)
    else chmodSync(join(folder, 'psk'), 0)
    try {
      assert.deepEqual(complaintsOf(withKey), [
        'a.yaml:5:7: modules.edgeTunnel.psk.path: DIR/psk cannot be read: permission denied; run as root, or give this user the right to read it',
      ])
    } finally {
      if (isRoot) process.seteuid?.(0)
    }
  })

  test('that is a directory is named', () => {
    mkdirSync(join(folder, 'psk'))
    assert.deepEqual(complaintsOf(withKey), [
      'a.yaml:5:7: modules.edgeTunnel.psk.path: DIR/psk is a directory; name the file that holds the key',
    ])
  })

  test('is not looked at without a tunnel or without use for it', () => {
    assert.deepEqual(complaintsOf(withKey.replace('enable: true', 'enable: false')), [])
    assert.deepEqual(complaintsOf(withKey.replace('psk:', 'psk:\n      enable: false')), [])
  })
})

suite('the pre-shared key before it', () => {
  const withBoth = `${withKey}      previousPath: DIR/previous\n`
  const file = () => join(folder, 'previous')

  test('is taken when only its owner can read it', () => {
    writeKey('key', 0o600)
    writeFileSync(file(), 'old', { mode: 0o600 })
    assert.deepEqual(complaintsOf(withBoth), [])
  })

  test('that is missing, or that every user can read, is named at its own line', () => {
    writeKey('key', 0o600)
    assert.match(complaintsOf(withBoth).join(), /^a\.yaml:6:7: \S+psk\.previousPath: DIR\/previous does not exist; /)
    writeFileSync(file(), 'old')
    chmodSync(file(), 0o644)
    assert.match(complaintsOf(withBoth).join(), /psk\.previousPath: DIR\/previous can be read by every user; run chmod/)
  })
})

suite('the folder of manifests', () => {
  test('that exists is taken', () => {
    assert.deepEqual(complaintsOf('kubeAPIConfig: { manifests: DIR }'), [])
  })

  test('that is missing or no folder is named, together with a missing key', () => {
    const [manifests, key] = complaintsOf(`kubeAPIConfig: { manifests: DIR/none }\n${withKey}`).reverse()
    assert.equal(
      manifests,
      'a.yaml:1:18: kubeAPIConfig.manifests: DIR/none does not exist; create it, or correct the path',
    )
    assert.match(key ?? '', /psk does not exist/)
    writeKey('key', 0o600)
    assert.deepEqual(complaintsOf('kubeAPIConfig: { manifests: DIR/psk }'), [
      'a.yaml:1:18: kubeAPIConfig.manifests: DIR/psk is no directory; name the folder that holds the manifests',
    ])
  })
})
