/** The ways to make rules in the kernel, each as a device would have it: with its own commands and no others. */
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import type { Host } from '../../lab/index.ts'

/** A way to make rules. */
export interface RulesWay {
  readonly name: 'nftables' | 'iptables-nft' | 'iptables-legacy'
  /** The iptables commands that a process on such a device finds. */
  readonly iptables: readonly ('iptables-nft' | 'iptables-legacy')[]
}

/** The usual one. */
export const nftables: RulesWay = { name: 'nftables', iptables: ['iptables-nft', 'iptables-legacy'] }

/** All of them. */
export const rulesWays: readonly RulesWay[] = [
  nftables,
  { name: 'iptables-nft', iptables: ['iptables-nft'] },
  { name: 'iptables-legacy', iptables: ['iptables-legacy'] },
]

/** How a node of such a kind starts a program: without nftables it finds `iptables` of one kind, and no nft. */
export function argumentsFor(way: RulesWay, node: Host, argv: readonly string[]): readonly string[] {
  return way === nftables ? argv : ['env', `PATH=${folderOf(way, node)}`, ...argv]
}

/** Gives a node of such a kind an nft that its kernel has nothing for. */
export function withBrokenNft(way: RulesWay, node: Host): void {
  const complaint = 'Unable to initialize Netlink socket: Protocol not supported'
  writeFileSync(join(folderOf(way, node), 'nft'), `#!/bin/sh\necho "${complaint}" >&2\nexit 1\n`, { mode: 0o755 })
}

/** Makes iptables of this node refuse rules with these words, as a kernel without their modules does. */
export function withoutModules(way: RulesWay, node: Host, words: readonly string[]): void {
  const file = join(folderOf(way, node), 'iptables-restore')
  const refused = words.map((word) => `*"${word}"*`).join(' | ')
  rmSync(file)
  writeFileSync(
    file,
    `#!/bin/sh
text=$(${whereIs('cat')})
case $text in ${refused}) echo "iptables-restore v1.8.9 (legacy): Couldn't load match" >&2; exit 2 ;; esac
echo "$text" | ${whereIs(`${way.name}-restore`)} "$@"
`,
    { mode: 0o755 },
  )
}

/** The same for a program that needs other commands as well. */
export function argumentsBeside(way: RulesWay, node: Host, argv: readonly string[]): readonly string[] {
  return way === nftables ? argv : ['env', `PATH=${folderOf(way, node)}${delimiter}${process.env['PATH']}`, ...argv]
}

function folderOf({ name }: RulesWay, node: Host): string {
  const folder = join(node.dir, name)
  if (!existsSync(folder)) {
    mkdirSync(folder)
    for (const end of ['', '-restore', '-save']) symlinkSync(whereIs(`${name}${end}`), join(folder, `iptables${end}`))
  }
  return folder
}

function whereIs(command: string): string {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  const found = folders.map((folder) => join(folder, command)).find((file) => existsSync(file))
  if (found === undefined) throw new Error(`${command} is not installed`)
  return found
}
