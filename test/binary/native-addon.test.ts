/** Our own native addon, as the build has compiled it: what it does, and that it runs where Node runs. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { loadNativeAddon } from '../../src/linux/native-addon.ts'
import { type NativeFunctions, parseNativeFunctions } from '../../src/linux/native-functions.ts'
import { architectures, executableOf, hostArchitecture, root, runExecutable } from './executables.ts'

const addonOf = (architecture: string) => join(root, '.cache', 'build', `edgemesh-${architecture}.node`)
const errno = { ENOENT: 2, EINVAL: 22, ECONNREFUSED: 111 } as const

let folder = ''
let receiver = ''
let native: NativeFunctions

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-native-'))
  receiver = join(folder, 'receive-datagram')
  execFileSync('gcc', ['-o', receiver, join(import.meta.dirname, 'support', 'receive-datagram.c')])
  native = parseNativeFunctions(loadNativeAddon('edgemesh', readFileSync(addonOf(hostArchitecture)), [folder]))
})
after(() => rmSync(folder, { recursive: true, force: true }))

test('a state reaches the socket of a service manager, by path or by abstract name', { timeout: 30_000 }, async () => {
  for (const name of [join(folder, 'notify'), `@edgemesh-test-notify-${process.pid}`]) {
    const manager = spawn(receiver, [name], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [ready] = await once(manager.stdout, 'data')
    assert.equal(String(ready), 'ready\n')
    assert.equal(native.sdNotify(name, 'READY=1'), 0)
    assert.equal(await text(manager.stdout), 'READY=1')
  }
})

test('a service manager that is not there, or a name that is none, is an error number', () => {
  assert.equal(native.sdNotify(join(folder, 'nobody'), 'READY=1'), errno.ENOENT)
  assert.equal(native.sdNotify(`@edgemesh-test-nobody-${process.pid}`, 'READY=1'), errno.ECONNREFUSED)
  assert.equal(native.sdNotify('', 'READY=1'), errno.EINVAL)
  assert.equal(native.sdNotify(`/${'x'.repeat(120)}`, 'READY=1'), errno.EINVAL)
})

test('the user that listens on an abstract socket is told, and -1 where nobody does', async () => {
  const name = `edgemesh-test-owner-${process.pid}`
  assert.equal(native.ownerOf(name), -1)
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve) => server.listen(`\0${name}`, resolve))
  assert.equal(native.ownerOf(name), process.getuid?.())
  await new Promise((resolve) => server.close(resolve))
})

test('a change of nftables that is none is an error number, and so is what nftables does not read', () => {
  const answers = Buffer.alloc(8192)
  assert.equal(native.changeNetfilter(Buffer.from('no'), 'no buffer' as unknown as Buffer), -errno.EINVAL)
  // The kernel reads no message shorter than its head, and says nothing to it.
  assert.equal(native.changeNetfilter(Buffer.alloc(8), answers), 0)
  assert.ok(native.changeNetfilter(Buffer.alloc(0), answers) <= 0)
})

test('a process that has given its memory back holds less and goes on', () => {
  const script = `
    const { readFileSync } = require('node:fs')
    const held = () => Number(/RssFile:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
    const { releaseMemory } = require(${JSON.stringify(addonOf(hostArchitecture))})
    const before = held()
    const released = releaseMemory()
    const after = held()
    const { createHash } = require('node:crypto')
    const digest = createHash('sha256').update(JSON.stringify([1, { two: /3/.source }])).digest('hex')
    console.log(JSON.stringify({ before, released, after, digest }))`
  const result = JSON.parse(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }))
  assert.ok(result.released > 20e6, `only ${result.released} bytes were found`)
  assert.ok(result.after < result.before / 2, `${result.before} kB before, ${result.after} kB after`)
  assert.equal(result.digest, '802dff1634cd317b8159aaf430d0bc8acd1c4ed962c63dc55c72c5a68b3523c8')
})

test('what a burst of buffers leaves free behind one that stays is given back', () => {
  const script = `
    const { readFileSync } = require('node:fs')
    const held = () => Number(/RssAnon:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
    const { trimFreeMemory } = require(${JSON.stringify(addonOf(hostArchitecture))})
    const { allocUnsafeSlow } = Buffer
    // The second one waits until the first has freed what it found.
    const collect = () => [gc(), gc()]
    // The C library takes no pages of their own for sizes of which one was freed.
    allocUnsafeSlow(1e6)
    collect()
    let burst = Array.from({ length: 640 }, () => allocUnsafeSlow(62 * 1024).fill(1))
    const last = allocUnsafeSlow(62 * 1024).fill(1)
    burst = undefined
    collect()
    const before = held()
    trimFreeMemory()
    console.log(JSON.stringify({ before, after: held(), last: last.length }))`
  const { before, after } = JSON.parse(
    execFileSync(process.execPath, ['--expose-gc', '-e', script], { encoding: 'utf8' }),
  )
  assert.ok(before - after > 20_000, `${before} kB before, ${after} kB after`)
})

test('the addon needs no newer C library than Node does', () => {
  for (const architecture of architectures) {
    const versions = readFileSync(addonOf(architecture), 'latin1').match(/GLIBC_[\d.]+/g) ?? []
    assert.ok(versions.length > 0, architecture)
    for (const version of versions) assert.ok(Number(version.split('.')[1]) <= 28, `${architecture}: ${version}`)
  }
})

test('the executable tells its service manager when its listeners stand', { timeout: 60_000 }, async () => {
  const [psk, config] = [join(folder, 'psk'), join(folder, 'server.yaml')]
  writeFileSync(psk, 'a key that is long enough for everybody', { mode: 0o600 })
  const tunnel = `{ listenPort: 26205, advertiseAddress: [127.0.0.1], psk: { path: ${psk} } }`
  const folders = `stateDir: ${folder}/state\nruntimeDir: ${folder}/run`
  writeFileSync(config, `kind: EdgeMeshServer\nnodeName: s\n${folders}\nmodules: { edgeTunnel: ${tunnel} }\n`)
  const name = `@edgemesh-test-ready-${process.pid}`
  const manager = spawn(receiver, [name], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(manager.stdout, 'data')
  const { PATH } = process.env
  const argv = ['server', '--config', config]
  const env = { PATH, NOTIFY_SOCKET: name, EDGEMESH_ADDON_DIR: folder }
  const server = spawn(executableOf(hostArchitecture), argv, { env, stdio: ['ignore', 'ignore', 'pipe'] })
  const log = text(server.stderr)
  assert.equal(await text(manager.stdout), 'READY=1')
  server.kill('SIGTERM')
  assert.match(await log, /server ready/)
})

test('the executable caps the memory of V8, and can collect its garbage when it likes', () => {
  const { stdout } = runExecutable(hostArchitecture, ['--node-options=--v8-options'])
  const defaultOf = (name: string) => new RegExp(`default: --${name}(?:=(\\S+))?$`, 'm').exec(stdout)
  assert.equal(defaultOf('max-semi-space-size')?.[1], '2')
  assert.notEqual(defaultOf('no-parallel-scavenge'), null)
  assert.equal(defaultOf('max-old-space-size')?.[1], '1024')
  assert.equal(defaultOf('heap-growing-percent')?.[1], '100')
  assert.notEqual(defaultOf('expose-gc'), null)
})
