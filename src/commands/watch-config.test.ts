import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type AgentConfig, type LoadedConfig, openConfig } from '../config/index.ts'
import { type Logger, silentLogger } from '../observability/index.ts'
import { membershipKeys, startConfigWatch } from './watch-config.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-watch-config-'))
after(() => rm(root, { recursive: true, force: true }))
const psk = join(root, 'psk')
await writeFile(psk, 'secret', { mode: 0o600 })

const env = { NODE_NAME: 'edge-a1' }
const reloadable = [
  'modules.edgeTunnel.servers',
  'modules.edgeTunnel.relayNodes',
  'modules.edgeTunnel.rendezvous',
  ...membershipKeys,
]
let folders = 0

function render(servers: readonly string[], more = ''): string {
  const tunnel = `{enable: true, psk: {path: ${psk}}, servers: [${servers}]${more}}`
  return `kubeAPIConfig: {manifests: ${root}}\nmodules:\n  edgeTunnel: ${tunnel}\n`
}

async function createFolder(): Promise<string> {
  folders += 1
  const directory = join(root, `${folders}`)
  await mkdir(directory)
  return directory
}

interface FileOptions {
  /** Where the file is already. */
  readonly file?: string
  readonly loaded?: LoadedConfig<'agent'>
  readonly pollMs?: number
  readonly fail?: () => void
}

/** An agent's configuration file and what its watch has done; only file events wake the watch, unless told otherwise. */
async function watchFile(text: string, options: FileOptions = {}) {
  const file = options.file ?? join(await createFolder(), 'edgemesh-agent.yaml')
  if (options.file === undefined) await writeFile(file, text)
  const lines: string[] = []
  const applied: (readonly string[])[] = []
  const record: Logger['info'] = ({ reason = '' }, message) => lines.push(`${message}: ${reason}`)
  const watch = startConfigWatch({
    loaded: options.loaded ?? openConfig('agent', file, env),
    env,
    reloadable,
    onChange: async ({ modules }: AgentConfig) => {
      options.fail?.()
      applied.push(modules.edgeTunnel.servers)
    },
    logger: { ...silentLogger, info: record, warn: record, error: record },
    pollMs: options.pollMs ?? 3_600_000,
  })
  return {
    file,
    lines,
    applied,
    async until(holds: () => boolean): Promise<void> {
      const deadline = performance.now() + 5_000
      while (!holds()) {
        assert.ok(performance.now() < deadline, `not within 5 s: ${holds}; log:\n${lines.join('\n')}`)
        await delay(1)
      }
    },
    [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose](),
  }
}

test('servers are put in force when the file is written in place, and when an editor renames a copy over it', async () => {
  await using watched = await watchFile(render(['192.0.2.1']))
  await writeFile(watched.file, render(['192.0.2.2']))
  await watched.until(() => watched.applied.length === 1)
  await writeFile(`${watched.file}~`, render(['192.0.2.3', '192.0.2.4']))
  await rename(`${watched.file}~`, watched.file)
  await watched.until(() => watched.lines.length === 2)
  assert.deepEqual(watched.applied, [['192.0.2.2'], ['192.0.2.3', '192.0.2.4']])
  assert.deepEqual(watched.lines, Array(2).fill('configuration reloaded: modules.edgeTunnel.servers'))
})

test('the swap of a ConfigMap volume is one change', async () => {
  const directory = await createFolder()
  const publish = async (version: string, text: string) => {
    await mkdir(join(directory, version))
    await writeFile(join(directory, version, 'edgemesh-agent.yaml'), text)
    await symlink(version, join(directory, '..data_tmp'))
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  const file = join(directory, 'edgemesh-agent.yaml')
  await publish('..1', render(['192.0.2.1']))
  await symlink('..data/edgemesh-agent.yaml', file)
  await using watched = await watchFile('', { file })
  for (const version of [2, 3]) {
    await publish(`..${version}`, render([`192.0.2.${version}`]))
    await rm(join(directory, `..${version - 1}`), { recursive: true })
    await watched.until(() => watched.lines.length === version - 1)
  }
  assert.deepEqual(watched.applied, [['192.0.2.2'], ['192.0.2.3']])
})

test('a file that a link leads to elsewhere is found by polling', async () => {
  const target = join(await createFolder(), 'target.yaml')
  const file = join(await createFolder(), 'edgemesh-agent.yaml')
  await writeFile(target, render(['192.0.2.1']))
  await symlink(target, file)
  await using watched = await watchFile('', { file, pollMs: 5 })
  await writeFile(target, render(['192.0.2.2']))
  await watched.until(() => watched.applied.length === 1)
})

test('what changed between the start and the watch is put in force', async () => {
  const file = join(await createFolder(), 'edgemesh-agent.yaml')
  await writeFile(file, render(['192.0.2.1']))
  const loaded = openConfig('agent', file, env)
  await writeFile(file, render(['192.0.2.2']))
  await using watched = await watchFile('', { file, loaded })
  await watched.until(() => watched.applied.length === 1)
})

test('an invalid file is logged once with line and column and changes nothing; what is right next is put in force', async () => {
  await using watched = await watchFile(render(['192.0.2.1']), { pollMs: 5 })
  await writeFile(watched.file, render(['192.0.2.2', 'not:an:address']))
  await watched.until(() => watched.lines.length === 1)
  assert.match(
    watched.lines[0] ?? '',
    /^the configuration file is not valid; what is in force stays: \S+agent\.yaml:3:\d+: modules\.edgeTunnel\.servers\[1\]: /,
  )
  await rm(watched.file)
  await watched.until(() => watched.lines.length === 2)
  assert.match(watched.lines[1] ?? '', /agent\.yaml: does not exist; /)
  await writeFile(watched.file, render(['192.0.2.3']))
  await watched.until(() => watched.applied.length === 1)
  assert.deepEqual(watched.applied, [['192.0.2.3']])
  assert.match(watched.lines.slice(2).join('\n'), /^the configuration file is valid again: \nconfiguration reloaded: /)
})

test('a file is valid again when what it names is put right', async () => {
  await using watched = await watchFile(render(['192.0.2.1']), { pollMs: 5 })
  await chmod(psk, 0o644)
  try {
    await writeFile(watched.file, render(['192.0.2.2']))
    await watched.until(() => watched.lines.some((line) => line.includes('can be read by every user')))
    assert.deepEqual(watched.applied, [])
  } finally {
    await chmod(psk, 0o600)
  }
  await watched.until(() => watched.applied.length === 1)
})

test('changed keys that need a restart are named in one line, once, and the others are put in force', async () => {
  await using watched = await watchFile(render(['192.0.2.1']))
  const changed = `logLevel: debug\n${render(['192.0.2.2'], ', listenPort: 20009')}`
  await writeFile(watched.file, changed)
  await watched.until(() => watched.applied.length === 1 && watched.lines.length === 2)
  await writeFile(watched.file, `# saved again\n${changed}`)
  await writeFile(watched.file, changed.replace('192.0.2.2', '192.0.2.3'))
  await watched.until(() => watched.applied.length === 2 && watched.lines.length === 3)
  assert.deepEqual(watched.lines, [
    'changed keys of the configuration take effect at the next start: logLevel, modules.edgeTunnel.listenPort',
    'configuration reloaded: modules.edgeTunnel.servers',
    'configuration reloaded: modules.edgeTunnel.servers',
  ])
})

test('who may be here changes while the process runs, also where a mapping gets one more key', async () => {
  const identity = '12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X'
  await using watched = await watchFile(render(['192.0.2.1']))
  await writeFile(
    watched.file,
    render(['192.0.2.1'], `, trust: pinned, peers: {edge-b: ${identity}}, revoked: [edge-c]`),
  )
  await watched.until(() => watched.applied.length === 1)
  const keys = ['peers.edge-b', 'revoked', 'trust'].map((key) => `modules.edgeTunnel.${key}`)
  assert.deepEqual(watched.lines, [`configuration reloaded: ${keys.join(', ')}`])
})

test('a key that reloads but has no effect says so', async () => {
  await using watched = await watchFile(render(['192.0.2.1']))
  await writeFile(watched.file, render(['192.0.2.1'], ', rendezvous: elsewhere'))
  await watched.until(() => watched.lines.length === 2)
  assert.equal(watched.lines[0], 'configuration reloaded: modules.edgeTunnel.rendezvous')
  assert.match(watched.lines[1] ?? '', /^configuration notice: \S+: modules\.edgeTunnel\.rendezvous: has no effect: /)
})

test('what cannot be put in force is logged, and the next change is tried', async () => {
  let failures = 1
  const fail = () => {
    failures -= 1
    if (failures === 0) throw new Error('no such server')
  }
  await using watched = await watchFile(render(['192.0.2.1']), { fail })
  await writeFile(watched.file, render(['192.0.2.2']))
  await watched.until(() => watched.lines.length === 1)
  assert.match(
    watched.lines[0] ?? '',
    /^the changed configuration cannot be put in force; what is in force stays: modules/,
  )
  await writeFile(watched.file, render(['192.0.2.3']))
  await watched.until(() => watched.applied.length === 1)
})

test('what cannot be put in force now is logged once and tried again until it can', async () => {
  let attempts = 0
  const fail = () => {
    attempts += 1
    if (attempts < 4) throw new Error('too many open files')
  }
  await using watched = await watchFile(render(['192.0.2.1']), { fail, pollMs: 5 })
  await writeFile(watched.file, render(['192.0.2.2']))
  await watched.until(() => watched.lines.length === 2)
  assert.deepEqual(watched.applied, [['192.0.2.2']])
  assert.match(watched.lines[0] ?? '', /^the changed configuration cannot be put in force; what is in force stays: /)
  assert.equal(watched.lines[1], 'configuration reloaded: modules.edgeTunnel.servers')
})
