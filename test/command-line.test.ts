/** The sources as a process: what is loaded for a command, signals, exit codes and faults. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { after, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))
const example = fileURLToPath(new URL('../examples/config/edgemesh-agent.yaml', import.meta.url))

/** Writes a line for each module that is loaded; the hook sees ES modules and CommonJS alike. */
const traceModules = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module'
  import { writeSync } from 'node:fs'
  registerHooks({ load(url, context, next) { writeSync(2, 'loaded ' + url + '\\n'); return next(url, context) } })
`)}`

function modulesLoadedBy(...argv: string[]): string[] {
  const child = spawnSync(process.execPath, ['--import', traceModules, main, ...argv], { encoding: 'utf8' })
  assert.equal(child.status, 0, child.stderr)
  return child.stderr.split('\n').filter((line) => line.startsWith('loaded '))
}

const tunnelModules = /@?libp2p|@chainsafe|@multiformats|\/src\/tunnel\/(?!config\.ts)/

suite('nothing of libp2p is loaded', () => {
  const cases = [['--version'], ['--help'], ['config', 'schema', 'server'], ['check-config', '--skip-files', example]]
  for (const argv of cases) {
    test(`by edgemesh ${argv[0]}`, () => {
      const loaded = modulesLoadedBy(...argv)
      assert.ok(loaded.some((line) => line.includes('commander')))
      assert.deepEqual(
        loaded.filter((line) => tunnelModules.test(line)),
        [],
      )
    })
  }

  test('by --version and --help, and no schema either', () => {
    const loaded = [...modulesLoadedBy('--version'), ...modulesLoadedBy('--help')]
    assert.deepEqual(
      loaded.filter((line) => /\/zod\/|\/yaml\/|\/pino\//.test(line)),
      [],
    )
  })

  test('and the trace would show it', () => {
    const argv = ['--import', traceModules, '--eval', "import('@libp2p/crypto/keys')"]
    const child = spawnSync(process.execPath, argv, {
      encoding: 'utf8',
      cwd: fileURLToPath(new URL('..', import.meta.url)),
    })
    assert.match(child.stderr, tunnelModules)
  })
})

suite('edgemesh peer-id', () => {
  const folder = mkdtempSync(join(tmpdir(), 'edgemesh-peer-id-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const config = join(folder, 'agent.yaml')
  const peerId = (identity: string, ...argv: string[]) => {
    const stateDir = join(folder, 'state')
    const document = { nodeName: 'ke-edge1', stateDir, modules: { edgeTunnel: { enable: true, identity } } }
    writeFileSync(config, JSON.stringify(document))
    return spawnSync(process.execPath, [main, 'peer-id', ...argv], { encoding: 'utf8' })
  }

  test('prints the identity that the Go system derives from a name', () => {
    const { stdout } = peerId('random', '--derive', 'k8s-node1')
    assert.equal(stdout, '12D3KooWErZ4m27CEinjcnXNvem2KFUJUFRBcd9NdcWnYRqyr1Sn\n')
  })

  test('prints the derived identity of a node that is configured to have one', () => {
    assert.equal(peerId('derived', '--config', config).stdout, '12D3KooWF3RB8SoMRZht7MDqF6GoipSPdFxVb9ESRLU7NuPX6ifH\n')
  })

  test('says that a node has no key before its first start', () => {
    const { status, stderr } = peerId('random', '--config', config)
    assert.notEqual(status, 0)
    assert.match(stderr, /identity\.key is made when edgemesh agent starts first/)
  })
})

suite('the process', () => {
  test('exits with 64 for a wrong command line and 78 for a wrong configuration', () => {
    assert.equal(spawnSync(process.execPath, [main, 'nothing']).status, 64)
    const missing = spawnSync(process.execPath, [main, 'check-config', '/nonexistent.yaml'], { encoding: 'utf8' })
    assert.deepEqual(
      [missing.status, missing.stdout, missing.stderr],
      [78, '', '/nonexistent.yaml: does not exist; check the path\n'],
    )
  })

  test('writes all of a long answer into a pipe', () => {
    const child = spawnSync(process.execPath, [main, 'config', 'schema'], { encoding: 'utf8' })
    assert.equal(child.status, 0)
    assert.equal(Reflect.get(JSON.parse(child.stdout), 'type'), 'object')
  })

  test('stays calm when nobody reads its answer', async () => {
    const child = spawn(process.execPath, [main, 'config', 'schema'], { stdio: ['ignore', 'pipe', 'pipe'] })
    let complaint = ''
    child.stderr.on('data', (data) => {
      complaint += data
    })
    child.stdout.destroy()
    const [exitCode] = await once(child, 'close')
    assert.deepEqual({ exitCode, complaint }, { exitCode: 0, complaint: '' })
  })
})

/** Runs `main` with a command that reports the stop it is asked for, and ends only when `isObedient`. */
function startCommand(isObedient: boolean): ChildProcess {
  const source = `
    export async function run(_, { out, signal }) {
      const alive = setInterval(() => {}, 1000)
      out('ready\\n')
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      out(signal.reason.message + '\\n')
      if (${!isObedient}) await new Promise(() => {})
      clearInterval(alive)
      return 7
    }`
  return startWithCommand(source)
}

/** Runs `main` with check-config replaced by this source text. */
function startWithCommand(source: string): ChildProcess {
  const replace = `data:text/javascript,${encodeURIComponent(`
    import { registerHooks } from 'node:module'
    registerHooks({ load(url, context, next) {
      if (!url.endsWith('/commands/check-config.ts')) return next(url, context)
      return { format: 'module', shortCircuit: true, source: ${JSON.stringify(source)} }
    } })
  `)}`
  const argv = ['--import', replace, main, 'check-config', 'x']
  return spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
}

interface Ending {
  readonly exitCode: number | null
  readonly out: string
  readonly err: string
}

async function endOf(child: ChildProcess, onOut: (out: string) => void = () => {}): Promise<Ending> {
  let out = ''
  let err = ''
  child.stdout?.on('data', (data) => {
    out += data
    onOut(out)
  })
  child.stderr?.on('data', (data) => {
    err += data
  })
  const [exitCode] = await once(child, 'close')
  return { exitCode, out, err }
}

suite('a signal', () => {
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    test(`${name} asks the command to stop, and its exit code counts`, async () => {
      const child = startCommand(true)
      const ending = await endOf(child, (out) => {
        if (out === 'ready\n') child.kill(name)
      })
      assert.deepEqual(ending, { exitCode: 7, out: `ready\nstopped by ${name}\n`, err: '' })
    })
  }

  test('that comes a second time ends the process at once', async () => {
    const child = startCommand(false)
    const ending = await endOf(child, (out) => {
      if (out === 'ready\n') child.kill('SIGTERM')
      if (out.endsWith('stopped by SIGTERM\n')) child.kill('SIGTERM')
    })
    assert.deepEqual(ending, { exitCode: 143, out: 'ready\nstopped by SIGTERM\n', err: '' })
  })
})

suite('a fault', () => {
  const faults = {
    'a promise that nobody handles': "void Promise.reject(new Error('lost'))",
    'an exception outside of any promise': "setImmediate(() => { throw new Error('lost') })",
  }
  for (const [name, statement] of Object.entries(faults)) {
    test(`${name} is told with its stack and exit code 70`, async () => {
      const source = `export async function run() { ${statement}; await new Promise((resolve) => setTimeout(resolve, 60_000)) }`
      const { exitCode, err } = await endOf(startWithCommand(source))
      assert.equal(exitCode, 70)
      assert.match(err, /^edgemesh: a fault in edgemesh itself, please report it: Error: lost\n {4}at /)
    })
  }
})
