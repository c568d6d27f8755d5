import assert from 'node:assert/strict'
import process from 'node:process'
import { suite, test } from 'node:test'
import { type CommandEntry, type CommandInput, commands, roleCommand } from '../commands/index.ts'
import { exitCodeMeanings } from './exit-codes.ts'
import { runCommandLine } from './run.ts'

interface Outcome {
  readonly exitCode: number
  readonly out: string
  readonly err: string
}

async function runWith(
  table: readonly CommandEntry[],
  argv: readonly string[],
  env: Record<string, string> = {},
  signal = new AbortController().signal,
): Promise<Outcome> {
  const written = { out: '', err: '' }
  const context = {
    out: (text: string) => {
      written.out += text
    },
    err: (text: string) => {
      written.err += text
    },
    env,
    signal,
  }
  const exitCode = await runCommandLine(argv, context, table)
  return { exitCode, ...written }
}

/** A command that keeps what it was called with. */
function createProbe(answer: () => Promise<number> = async () => 0) {
  const calls: CommandInput[] = []
  const entry: CommandEntry = {
    name: 'probe',
    group: 'Look',
    summary: 'look at something',
    arguments: [{ syntax: '<what>', description: 'what to look at' }],
    options: [
      { syntax: '--deep <level>', description: 'how deep', choices: ['a', 'b'] },
      { syntax: '--very-quiet', description: 'say little' },
    ],
    example: 'edgemesh probe thing',
    load: async () => ({
      run: (input) => {
        calls.push(input)
        return answer()
      },
    }),
  }
  return { entry, calls }
}

suite('a command', () => {
  test('gets its arguments and options, and gives the exit code', async () => {
    const probe = createProbe(async () => 3)
    const { exitCode, out, err } = await runWith([probe.entry], ['probe', 'thing', '--deep', 'a', '--very-quiet'])
    assert.deepEqual({ exitCode, out, err }, { exitCode: 3, out: '', err: '' })
    assert.deepEqual(probe.calls, [{ arguments: ['thing'], options: { deep: 'a', veryQuiet: true } }])
  })

  test('is not loaded for the help page, a usage error or another command', async () => {
    const loaded: string[] = []
    const table = ['one', 'two'].map((name): CommandEntry => {
      const load = async () => {
        loaded.push(name)
        return { run: async () => 0 }
      }
      return { name, group: 'Look', summary: 'look', load }
    })
    for (const argv of [['--help'], ['--version'], ['two', '--nope'], ['help', 'two'], ['two', '--help'], ['one']]) {
      await runWith(table, argv)
    }
    assert.deepEqual(loaded, ['one'])
  })

  test('in a family is called by both words', async () => {
    const probe = createProbe()
    const table = [
      { ...probe.entry, name: 'config look' },
      { ...probe.entry, name: 'config see' },
    ]
    assert.equal((await runWith(table, ['config', 'look', 'x'])).exitCode, 0)
    assert.equal((await runWith(table, ['config', 'see', 'x'])).exitCode, 0)
    assert.equal((await runWith(table, ['config'])).exitCode, 64)
    assert.equal(probe.calls.length, 2)
    assert.match((await runWith(table, ['--help'])).out, /\n {2}config look <what> .*\n {2}config see <what> /)
  })
})

suite('a failure', () => {
  test('is one line without a stack, with the causes', async () => {
    const failure = new Error('Cannot start', { cause: new Error('connect\n  ECONNREFUSED') })
    const probe = createProbe(() => Promise.reject(failure))
    assert.deepEqual(await runWith([probe.entry], ['probe', 'x']), {
      exitCode: 1,
      out: '',
      err: 'edgemesh: Cannot start: connect; ECONNREFUSED\n',
    })
  })

  test('ends in what to do, where an error knows it and the text does not say it already', async () => {
    const cause = Object.assign(new Error('port 53 is taken'), { remedy: 'stop dnsmasq' })
    const told = Object.assign(new Error('nft is missing; install nftables'), { remedy: 'install nftables' })
    for (const [error, line] of [
      [new Error('Cannot serve DNS', { cause }), 'Cannot serve DNS: port 53 is taken; stop dnsmasq'],
      [told, 'nft is missing; install nftables'],
    ] as const) {
      const probe = createProbe(() => Promise.reject(error))
      assert.equal((await runWith([probe.entry], ['probe', 'x'])).err, `edgemesh: ${line}\n`)
    }
  })

  test('shows where it comes from when EDGEMESH_DEBUG is set', async () => {
    const probe = createProbe(() => Promise.reject(new Error('Cannot start', { cause: new Error('deep') })))
    const { err } = await runWith([probe.entry], ['probe', 'x'], { EDGEMESH_DEBUG: '1' })
    assert.match(err, /^edgemesh: Error: Cannot start\n {4}at .*run\.test\.ts[\s\S]*cause.*deep/)
  })

  test('of the configuration keeps one line for each problem', async () => {
    const failure = Object.assign(new Error('a.yaml:1:1: x\na.yaml:2:1: y'), { code: 'EDGEMESH_CONFIG', exitCode: 78 })
    const probe = createProbe(() => Promise.reject(failure))
    const { exitCode, err } = await runWith([probe.entry], ['probe', 'x'])
    assert.deepEqual({ exitCode, err }, { exitCode: 78, err: 'a.yaml:1:1: x\na.yaml:2:1: y\n' })
  })

  test('to be what ends a command that was asked to stop is none', async () => {
    const stop = new AbortController()
    const probe = createProbe(() => {
      stop.abort(new Error('stopped by SIGTERM'))
      return Promise.reject(stop.signal.reason)
    })
    assert.deepEqual(await runWith([probe.entry], ['probe', 'x'], {}, stop.signal), { exitCode: 0, out: '', err: '' })
  })
})

suite('a wrong command line exits with 64 and one line that helps:', () => {
  const { entry } = createProbe()
  const cases: readonly (readonly [argv: readonly string[], message: string])[] = [
    [['prob'], "unknown command 'prob' (did you mean probe?)"],
    [['nothing-like-it'], "unknown command 'nothing-like-it'"],
    [['probe', 'x', '--dep', 'a'], "unknown option '--dep' (did you mean --deep?)"],
    [['probe', 'x', '--deep'], "option '--deep <level>' argument missing"],
    [['probe', 'x', '--deep', 'c'], "option '--deep <level>' argument 'c' is invalid. Allowed choices are a, b."],
    [['probe'], "missing required argument 'what'"],
    [['probe', 'x', 'y'], "too many arguments for 'probe'. Expected 1 argument but got 2: x, y."],
    [['--nope'], "unknown option '--nope'"],
  ]
  for (const [argv, message] of cases) {
    test(`edgemesh ${argv.join(' ')}`, async () => {
      assert.deepEqual(await runWith([entry], argv), {
        exitCode: 64,
        out: '',
        err: `edgemesh: ${message}; see edgemesh --help\n`,
      })
    })
  }

  test('nothing at all prints the help page to standard error', async () => {
    const { exitCode, out, err } = await runWith([entry], [])
    assert.deepEqual({ exitCode, out }, { exitCode: 64, out: '' })
    assert.match(err, /^Usage: edgemesh /)
  })
})

suite('the help page', () => {
  const table = [
    roleCommand('agent', 'make Services work on this node', async () => ({ run: async () => 0 })),
    createProbe().entry,
  ]

  test('says what this is, groups the commands and explains examples, files and exit codes', async () => {
    const { exitCode, out, err } = await runWith(table, ['--help'])
    assert.deepEqual({ exitCode, err }, { exitCode: 0, err: '' })
    const headings = out.match(/^[A-Z][a-z ]+:(?=$)/gm)
    assert.deepEqual(headings, [
      'Options:',
      'Run:',
      'Look:',
      'Other:',
      'Examples:',
      'Files:',
      'Environment:',
      'Exit codes:',
    ])
    assert.match(out, /edgemesh makes Kubernetes Services work/)
    assert.match(out, /\n {2}agent +make Services work on this node\n/)
    assert.match(out, /\n {2}edgemesh agent --config edgemesh-agent\.yaml\n/)
    assert.match(out, /\n {2}\/etc\/edgemesh\/config\/edgemesh-agent\.yaml {2,}configuration of edgemesh agent\n/)
    for (const [code, meaning] of exitCodeMeanings) assert.match(out, new RegExp(`\\n {2}${code} +${meaning}`))
  })

  test('fits a terminal', async () => {
    const { out } = await runWith(commands, ['--help'])
    assert.deepEqual(
      out.split('\n').filter((line) => line.length > 100),
      [],
    )
  })

  test('of a command names its options and an example', async () => {
    for (const argv of [
      ['help', 'agent'],
      ['agent', '--help'],
      ['agent', '-h'],
    ]) {
      const { exitCode, out } = await runWith(table, argv)
      assert.equal(exitCode, 0)
      assert.match(out, /--config <file> +configuration file \(default:/)
      assert.match(out, /Example:\n {2}edgemesh agent --config/)
    }
  })

  test('of every command of this build can be printed', async () => {
    for (const { name } of commands) {
      const { exitCode, out } = await runWith(commands, [...name.split(' '), '--help'])
      assert.equal(exitCode, 0)
      assert.match(out, new RegExp(`^Usage: edgemesh ${name} `))
    }
  })
})

test('version and --version say what was built and what it runs on', async () => {
  const expected = `edgemesh dev (commit unknown, node ${process.version}, ${process.platform}-${process.arch})\n`
  for (const argv of [['--version'], ['version']]) {
    assert.deepEqual(await runWith([], argv), { exitCode: 0, out: expected, err: '' })
  }
})
