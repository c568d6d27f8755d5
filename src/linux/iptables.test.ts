import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { afterEach, beforeEach, test } from 'node:test'
import { RulesetRejectedError } from './errors.ts'
import { findIptables, removalsOf, removeOwnChains } from './iptables.ts'

const { signal } = new AbortController()
const path = process.env['PATH']
let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-iptables-'))
  process.env['PATH'] = folder
})
afterEach(() => {
  process.env['PATH'] = path
  rmSync(folder, { recursive: true, force: true })
})

/** Puts a command into the only folder of the path; `$*` are its arguments. */
function install(name: string, script: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
  chmodSync(join(folder, name), 0o755)
}

const version = (text: string, rest = '') => `[ "$1" = --version ] && { echo "iptables ${text}"; exit; }\n${rest}`

test('each kind is found once, by whatever name it has, and the first one is the choice of the system', async () => {
  assert.deepEqual(await findIptables(signal), [])
  install('iptables-legacy', version('v1.8.9 (legacy)'))
  install('iptables-nft', version('v1.8.9 (nf_tables)'))
  install('iptables', version('v1.8.9 (nf_tables)'))
  const kinds = (await findIptables(signal)).map(({ kind }) => kind)
  assert.deepEqual(kinds, ['nft', 'legacy'])
})

test('versions that name no kind have the old tables; those that do not run are not there', async () => {
  install('iptables', version('v1.6.0'))
  install('iptables-nft', 'echo "no such kernel" >&2; exit 3')
  const found = await findIptables(signal)
  assert.deepEqual(
    found.map((one) => `${one.kind} ${one.version}`),
    ['legacy iptables v1.6.0'],
  )
})

async function nftWith(script: string) {
  install('iptables', version('v1.8.9 (nf_tables)', script))
  const [iptables] = await findIptables(signal)
  return iptables ?? assert.fail('not found')
}

test('a table is listed as the command prints it, and one that cannot be read is empty', async () => {
  const iptables = await nftWith('[ "$*" = "-w 5 -t nat -S" ] && { echo "-P OUTPUT ACCEPT"; exit; }; exit 3')
  assert.deepEqual(await iptables.list('nat', signal), ['-P OUTPUT ACCEPT'])
  assert.deepEqual(await iptables.list('raw', signal), [])
})

test('a table that somebody else has locked is not taken for an empty one', async () => {
  const iptables = await nftWith('echo "Another app is currently holding the xtables lock." >&2; exit 4')
  await assert.rejects(iptables.list('nat', signal), /holding the xtables lock/)
})

test('rules of chains come in the order in which they were asked for, of both kinds', async () => {
  const chains = [
    { table: 'nat', name: 'OUTPUT' },
    { table: 'filter', name: 'OUTPUT' },
    { table: 'raw', name: 'OUTPUT' },
  ] as const
  const wanted = [['-A OUTPUT -j NAT'], [], ['-A OUTPUT -j RAW']]
  const ours = { table: 'nat', name: 'EDGEMESH-OUTPUT' } as const
  const nft = await nftWith(
    'case $* in *EDGEMESH*) exit 1;; esac; echo "-P OUTPUT ACCEPT"; case $* in *nat*) echo "-A OUTPUT -j NAT" ;; *raw*) echo "-A OUTPUT -j RAW" ;; esac',
  )
  assert.deepEqual(await nft.rulesOf(chains, signal), wanted)
  assert.deepEqual(await nft.rulesOf([...chains, ours], signal), [])
  install('iptables', version('v1.8.9 (legacy)'))
  install(
    'iptables-restore',
    `while read -r line; do
       case $line in
         '*'*) table=$line ;;
         -S*EDGEMESH*) exit 1 ;;
         -S*) echo "-P OUTPUT ACCEPT"; case $table in *nat) echo "-A OUTPUT -j NAT" ;; *raw) echo "-A OUTPUT -j RAW" ;; esac ;;
       esac
     done`,
  )
  const [legacy] = await findIptables(signal)
  assert.deepEqual(await legacy?.rulesOf(chains, signal), wanted)
  assert.deepEqual(await legacy?.rulesOf([...chains, ours], signal), [])
})

test('a text is restored without flushing, and what is refused is told with its line', async () => {
  const iptables = await nftWith('')
  install('iptables-restore', `echo "$*" > ${folder}/words; while read -r line; do echo "$line"; done > ${folder}/text`)
  await iptables.restore('*nat\nCOMMIT\n', signal)
  assert.equal(readFileSync(join(folder, 'words'), 'utf8'), '-w 5 --noflush\n')
  assert.equal(readFileSync(join(folder, 'text'), 'utf8'), '*nat\nCOMMIT\n')
  install(
    'iptables-restore',
    'echo "iptables-restore v1.8.9 (nf_tables): no such match" >&2; echo "Error occurred at line: 2" >&2; exit 2',
  )
  await assert.rejects(iptables.restore('*nat\n-A X -m recent\nCOMMIT\n', signal), (error) => {
    assert.ok(error instanceof RulesetRejectedError)
    assert.equal(error.message, 'Cannot apply the ruleset: no such match, in "-A X -m recent"')
    return true
  })
})

const nat = [
  '-P PREROUTING ACCEPT',
  '-N EDGEMESH-PREROUTING',
  '-N EDGEMESH-SERVICES',
  '-N KUBE-SERVICES',
  '-A PREROUTING -j EDGEMESH-PREROUTING',
  '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
  '-A EDGEMESH-PREROUTING -i eth0 -g EDGEMESH-SERVICES',
  '-A KUBE-SERVICES -m comment --comment "to EDGEMESH-X" -j RETURN',
]

test('what is removed of a table is ours, with what leads to it, and nothing else', () => {
  assert.deepEqual(
    removalsOf(nat, (name) => name.startsWith('EDGEMESH-')),
    [
      '-D PREROUTING -j EDGEMESH-PREROUTING',
      '-F EDGEMESH-PREROUTING',
      '-F EDGEMESH-SERVICES',
      '-X EDGEMESH-PREROUTING',
      '-X EDGEMESH-SERVICES',
    ],
  )
})

test('all tables are cleared in one go; where nothing is ours nothing is run', async () => {
  const listing = nat.map((line) => `echo '${line}'`).join('; ')
  const iptables = await nftWith(`case $* in *nat*) ${listing} ;; *mangle*) echo "-N EDGEMESH-OUTPUT" ;; esac`)
  install('iptables-restore', `while read -r line; do echo "$line"; done >> ${folder}/text`)
  assert.equal(await removeOwnChains(iptables, signal), true)
  const text = readFileSync(join(folder, 'text'), 'utf8')
  assert.match(
    text,
    /^\*mangle\n-F EDGEMESH-OUTPUT\n-X EDGEMESH-OUTPUT\nCOMMIT\n\*nat\n-D PREROUTING -j EDGEMESH-PREROUTING\n/,
  )
  assert.equal(await removeOwnChains(await nftWith('exit 3'), signal), false)
  assert.equal(readFileSync(join(folder, 'text'), 'utf8'), text)
})
