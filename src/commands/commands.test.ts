import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { parse } from 'yaml'
import { ConfigError, parseConfig } from '../config/index.ts'
import * as checkConfig from './check-config.ts'
import * as configSchema from './config-schema.ts'
import { type CommandContext, type CommandInput, commands, roleCommand } from './index.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-commands-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function createContext(): CommandContext & { readonly written: () => string } {
  let text = ''
  return {
    out: (more) => {
      text += more
    },
    err: () => assert.fail('nothing belongs on standard error'),
    env: { NODE_NAME: 'edge-a1' },
    signal: new AbortController().signal,
    build: { version: '0', commit: '0' },
    written: () => text,
  }
}

function write(name: string, text: string): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}

function inputOf(args: readonly string[], options: CommandInput['options'] = {}): CommandInput {
  return { arguments: args, options }
}

suite('check-config', () => {
  test('says ok and names the keys that change nothing', async () => {
    const file = write('a.yaml', 'kind: EdgeMeshAgent\nmodules:\n  edgeTunnel:\n    maxCandidates: 5\n')
    const context = createContext()
    assert.equal(await checkConfig.run(inputOf([file]), context), 0)
    const [first, second = '', ...rest] = context.written().trimEnd().split('\n')
    assert.equal(first, `${file}: ok`)
    assert.ok(second.startsWith(`${file}:4:5: modules.edgeTunnel.maxCandidates: has no effect: `))
    assert.deepEqual(rest, [])
  })

  test('takes the role that is given, over what the file is called', async () => {
    const file = write('edgemesh-agent.yaml', 'modules: { edgeGateway: { enable: false } }')
    assert.equal(await checkConfig.run(inputOf([file], { role: 'gateway' }), createContext()), 0)
    await assert.rejects(checkConfig.run(inputOf([file]), createContext()), /edgeGateway: unknown key/)
  })

  test('throws everything that is wrong, for exit code 78', async () => {
    const file = write('a.yaml', 'kind: EdgeMeshServer\nnodeName: 7\nx: 1\n')
    await assert.rejects(checkConfig.run(inputOf([file]), createContext()), (error) => {
      assert.ok(error instanceof ConfigError)
      assert.equal(error.exitCode, 78)
      assert.deepEqual(
        error.problems.map(({ file: where, line, column, path, value }) => ({ where, line, column, path, value })),
        [
          { where: file, line: 2, column: 1, path: 'nodeName', value: 7 },
          { where: file, line: 3, column: 1, path: 'x', value: 1 },
        ],
      )
      return true
    })
  })

  test('looks at the files that are named, unless they are on another machine', async () => {
    const key = write('psk', 'secret')
    chmodSync(key, 0o644)
    const file = write('a.yaml', `kind: EdgeMeshServer\nmodules: { edgeTunnel: { psk: { path: ${key} } } }`)
    await assert.rejects(checkConfig.run(inputOf([file]), createContext()), /chmod 600/)
    assert.equal(await checkConfig.run(inputOf([file], { skipFiles: true }), createContext()), 0)
    chmodSync(key, 0o600)
    assert.equal(await checkConfig.run(inputOf([file]), createContext()), 0)
  })
})

test('config schema prints the JSON Schema of the role, of the agent without one', async () => {
  const titles = []
  for (const args of [[], ['agent'], ['server'], ['gateway']]) {
    const context = createContext()
    assert.equal(await configSchema.run(inputOf(args), context), 0)
    titles.push(Reflect.get(JSON.parse(context.written()), 'title'))
  }
  assert.deepEqual(
    titles,
    ['agent', 'agent', 'server', 'gateway'].map((role) => `Configuration of edgemesh ${role}`),
  )
})

suite('a long-running command', () => {
  function createRole() {
    const files: string[] = []
    const entry = roleCommand('server', 'relay', async () => ({
      run: async (configFile) => {
        files.push(configFile)
        return 0
      },
    }))
    return { entry, files }
  }

  test('gets the file of either option, or the default', async () => {
    const { entry, files } = createRole()
    const { run } = await entry.load()
    for (const options of [{ config: '/a' }, { configFile: '/b' }, {}]) {
      assert.equal(await run(inputOf([], options), createContext()), 0)
    }
    assert.deepEqual(files, ['/a', '/b', '/etc/edgemesh/config/edgemesh-server.yaml'])
  })

  test('prints a valid configuration instead of running', async () => {
    const { entry, files } = createRole()
    const { run } = await entry.load()
    for (const option of ['minconfig', 'defaultconfig']) {
      const context = createContext()
      assert.equal(await run(inputOf([], { [option]: true }), context), 0)
      assert.equal(Reflect.get(parse(context.written()), 'kind'), 'EdgeMeshServer')
      assert.ok(parseConfig('server', context.written(), 'a.yaml', context.env))
    }
    assert.deepEqual(files, [])
  })
})

test('no two commands have the same name', () => {
  const names = commands.map(({ name }) => name)
  assert.deepEqual(names, [...new Set(names)])
})
