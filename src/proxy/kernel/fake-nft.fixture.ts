import assert from 'node:assert/strict'
import type { ElementChange } from '../../linux/index.ts'

/** A table as nft would hold it after the texts that were run. */
export interface FakeNft {
  readonly containers: Map<string, Map<string, string>>
  readonly chains: Map<string, string[]>
  /** Runs a text as nft does: all of it, or nothing with an error. */
  run(text: string): void
  /** The same for a transaction on elements. */
  change(elements: ElementChange): void
  /** The elements of a container as `key` or `key : value`; empty when there is none. */
  elements(container: string): string[]
}

/** Understands the sentences that this product writes, and refuses what the kernel would refuse. */
export function createFakeNft(): FakeNft {
  let containers = new Map<string, Map<string, string>>()
  let chains = new Map<string, string[]>()
  const transact = (act: (draft: Draft) => void): void => {
    const draft = { containers: structuredClone(containers), chains: structuredClone(chains) }
    act(draft)
    assertNoDanglingChains(draft)
    containers = draft.containers
    chains = draft.chains
  }
  return {
    get containers() {
      return containers
    },
    get chains() {
      return chains
    },
    run(text) {
      const lines = text.split('\n').filter((line) => line.trim() !== '')
      transact((draft) => {
        while (lines.length > 0) runSentence(draft, lines)
      })
    },
    change({ emptiedChains = [], emptied = [], removed = [], added = [] }) {
      transact((draft) => {
        for (const name of emptiedChains) aboutChain(draft, 'flush', name)
        for (const name of emptied) existing(draft.containers, name).clear()
        for (const { container, key } of removed) changeElement(existing(draft.containers, container), 'delete', key)
        for (const { container, key, value } of added) {
          changeElement(existing(draft.containers, container), 'add', key, value)
        }
      })
    },
    elements: (container) =>
      [...(containers.get(container) ?? [])].map(([key, value]) => (value === '' ? key : `${key} : ${value}`)),
  }
}

interface Draft {
  readonly containers: Map<string, Map<string, string>>
  readonly chains: Map<string, string[]>
}

const existing = <V>(map: ReadonlyMap<string, V>, name: string): V => map.get(name) ?? assert.fail(`no ${name}`)

function runSentence(draft: Draft, lines: string[]): void {
  const words = (lines.shift() ?? '').trim().split(' ')
  const [verb = '', kind = '', , , name = ''] = words
  if (verb === 'table') {
    runTable(draft, lines)
    return
  }
  if (kind === 'element') {
    runElements(existing(draft.containers, name), verb, takeBlock(lines))
    return
  }
  const run = { table: aboutTable, chain: aboutChain, map: aboutContainer, set: aboutContainer, rule: addRule }[kind]
  if (run === undefined) assert.fail(`cannot run "${words.join(' ')}"`)
  run(draft, verb, name, words.slice(5).join(' '))
}

function aboutTable({ containers, chains }: Draft, verb: string): void {
  if (verb === 'flush') for (const [chain, rules] of chains) chains.set(chain, hookOf(rules))
  if (verb !== 'delete') return
  containers.clear()
  chains.clear()
}

function aboutChain({ chains }: Draft, verb: string, name: string): void {
  if (verb === 'add') {
    if (!chains.has(name)) chains.set(name, [])
    return
  }
  const rules = existing(chains, name)
  if (verb === 'flush') chains.set(name, hookOf(rules))
  else {
    assert.deepEqual(rules, [], `${name} has rules`)
    chains.delete(name)
  }
}

/** What makes a chain one on a hook, which is no rule. */
const hookOf = (rules: readonly string[]): string[] => rules.filter((rule) => rule.startsWith('type '))

function aboutContainer({ containers }: Draft, verb: string, name: string): void {
  if (verb === 'add') {
    if (!containers.has(name)) containers.set(name, new Map())
    return
  }
  const elements = existing(containers, name)
  if (verb === 'flush') elements.clear()
  else containers.delete(name)
}

function addRule({ chains }: Draft, _verb: string, name: string, rule: string): void {
  existing(chains, name).push(rule)
}

function takeBlock(lines: string[]): string[] {
  const end = lines.findIndex((line) => line.trim() === '}')
  return lines.splice(0, end + 1).slice(0, -1)
}

function runTable({ containers, chains }: Draft, lines: string[]): void {
  while (lines[0] !== undefined && lines[0] !== '}') {
    const [kind, name = ''] = (lines.shift() ?? '').trim().split(' ')
    const block = takeBlock(lines).map((line) => line.trim())
    if (kind === 'chain') chains.set(name, [...new Set([...(chains.get(name) ?? []), ...block])])
    else if (!containers.has(name)) containers.set(name, new Map())
  }
  lines.shift()
}

function runElements(container: Map<string, string>, verb: string, block: readonly string[]): void {
  for (const line of block) {
    const [key = '', value] = line.trim().replace(/,$/, '').split(' : ')
    changeElement(container, verb, key, value)
  }
}

function changeElement(container: Map<string, string>, verb: string, key: string, value = ''): void {
  if (verb === 'delete') assert.ok(container.delete(key), `no element ${key}`)
  else {
    assert.ok(!container.has(key) || container.get(key) === value, `${key} exists with another value`)
    container.set(key, value)
  }
}

/** What rules and elements lead to must be there, as the kernel demands. */
function assertNoDanglingChains({ containers, chains }: Draft): void {
  const verdicts = [...containers.values()].flatMap((elements) => [...elements.values()])
  for (const text of [...verdicts, ...[...chains.values()].flat()]) {
    for (const [, chain = ''] of text.matchAll(/(?:goto|jump) ([\w./-]+)/g)) existing(chains, chain)
    for (const [, container = ''] of text.matchAll(/@([\w-]+)/g)) existing(containers, container)
  }
}
