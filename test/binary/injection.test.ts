/** Nothing in the environment makes the executable run, load or open something that its command line does not say. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { executableOf, hostArchitecture, runExecutable } from './executables.ts'

let folder = ''
let intruder = ''

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-injection-'))
  intruder = join(folder, 'intruder.cjs')
  writeFileSync(intruder, 'process.stdout.write("intruder\\n")')
})
after(() => rmSync(folder, { recursive: true, force: true }))

test('Node options from the environment are not honoured', () => {
  const { stdout, status } = runExecutable(hostArchitecture, ['--version'], { NODE_OPTIONS: `--require ${intruder}` })
  assert.equal(status, 0)
  assert.doesNotMatch(stdout, /intruder/)
})

test('Node options on the command line are, for who asks for them', () => {
  const { stdout } = runExecutable(hostArchitecture, [`--node-options=--require ${intruder}`, '--version'])
  assert.match(stdout, /^intruder\nedgemesh /)
})

test('modules are not loaded from NODE_PATH', () => {
  const modules = join(folder, 'modules')
  for (const name of ['commander', 'netlink', 'yaml']) {
    mkdirSync(join(modules, name), { recursive: true })
    writeFileSync(join(modules, name, 'index.js'), 'process.stdout.write("intruder\\n")')
  }
  const { stdout } = runExecutable(hostArchitecture, ['--version'], { NODE_PATH: modules })
  assert.match(stdout, /^edgemesh /)
})

test('options of Node among the arguments are unknown options', () => {
  for (const option of ['--inspect', '--require', '--eval']) {
    const { status, stderr } = runExecutable(hostArchitecture, [option, 'agent'])
    assert.equal(status, 64, option)
    assert.match(stderr, /unknown option/)
  }
})

test('SIGUSR1 opens no debugger and ends nothing', { timeout: 20_000 }, async () => {
  const psk = join(folder, 'psk')
  const config = join(folder, 'server.yaml')
  writeFileSync(psk, 'a key that is long enough for everybody', { mode: 0o600 })
  const tunnel = `{ listenPort: 26204, advertiseAddress: [127.0.0.1], psk: { path: ${psk} } }`
  writeFileSync(
    config,
    `kind: EdgeMeshServer\nnodeName: s\nstateDir: ${folder}/state\nruntimeDir: ${folder}/run\nmodules: { edgeTunnel: ${tunnel} }\n`,
  )
  const { PATH } = process.env
  const argv = ['server', '--config', config]
  const child = spawn(executableOf(hostArchitecture), argv, { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH } })
  let log = ''
  const ready = Promise.withResolvers<void>()
  child.stderr.on('data', (chunk: Buffer) => {
    log += chunk.toString()
    if (log.includes('server ready')) ready.resolve()
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  try {
    await Promise.race([ready.promise, ended])
    child.kill('SIGUSR1')
    // Node would open the port and say so within this time.
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.equal(child.exitCode, null, log)
    assert.ok(!readFileSync(`/proc/${child.pid}/net/tcp`, 'latin1').includes(listenerOnLoopback(9229)))
  } finally {
    child.kill('SIGTERM')
  }
  assert.equal(await ended, 0)
  assert.doesNotMatch(log, /debugger/i)
})

/** As /proc/net/tcp shows it. */
function listenerOnLoopback(port: number): string {
  return `0100007F:${port.toString(16).toUpperCase()} 00000000:0000 0A`
}
