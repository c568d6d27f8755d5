/**
 * Elements of nftables changed by netlink and by nft: the same changes leave the same table. In the network namespace
 * that the tests run in, which holds nothing else.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, beforeEach, suite, test } from 'node:test'
import { type ElementChange, openKernel, type RulesetApplier, RulesetRejectedError } from '../../src/linux/index.ts'
import type { NativeFunctions } from '../../src/linux/native-functions.ts'
import { type Logger, silentLogger } from '../../src/observability/index.ts'
import { tableName } from '../../src/proxy/index.ts'
import { createComparison, wholeTableOf } from '../../src/proxy/kernel/nft-table.ts'
import { type Ruleset, rulesetOf } from '../../src/proxy/kernel/render-ruleset.ts'
import type { Choice, RuledExternalAccess, RuledServicePort, Slot } from '../../src/proxy/kernel/ruled-service-port.ts'
import { repeatableRandom } from '../../src/runtime/repeatable-random.fixture.ts'
import { requireIsolation } from '../lab/isolation.ts'
import { loadBuiltNative } from './support/native.ts'

const { signal } = new AbortController()
const isIdle = { timeout: 120_000 }
let native: NativeFunctions

before(async () => {
  await requireIsolation()
  native = loadBuiltNative()
})
beforeEach(removeTable)
after(removeTable)

function removeTable(): void {
  execFileSync('nft', ['-f', '-'], { input: `add table ip ${tableName}\ndelete table ip ${tableName}\n` })
}

/** The table as nft lists it: without handles and counters of time, elements and chains in an order of their own. */
function listing(): unknown {
  const output = execFileSync('nft', ['-j', 'list', 'ruleset'], { encoding: 'utf8', maxBuffer: 256e6, stdio: 'pipe' })
  const { nftables } = JSON.parse(output) as { nftables: Record<string, Record<string, unknown>>[] }
  return nftables.map((entry) => JSON.stringify(entry, withoutHandles)).sort()
}

function withoutHandles(key: string, value: unknown): unknown {
  if (key === 'handle' || key === 'index') return undefined
  return key === 'elem' && Array.isArray(value) ? value.map((one) => JSON.stringify(one)).sort() : value
}

async function withApplier<T>(
  by: NativeFunctions | undefined,
  use: (applier: RulesetApplier) => Promise<T>,
  logger: Logger = silentLogger,
): Promise<T> {
  using kernel = await openKernel({ table: tableName, deviceName: 'edgemesh0' }, logger, by)
  return await use(kernel.applier)
}

suite('the same changes', isIdle, () => {
  /** Each step with what nft lists after it. */
  async function listingsOf(by: NativeFunctions | undefined, rulesets: readonly Ruleset[]) {
    removeTable()
    return await withApplier(by, async (applier) => {
      const listings: unknown[] = []
      const differenceOf = createComparison<RuledServicePort>()
      let last: Ruleset | undefined
      let elementsAlone = 0
      for (const ruleset of rulesets) {
        const difference = last === undefined ? undefined : differenceOf(last, ruleset)
        if (difference === undefined) await applier.apply(wholeTableOf(ruleset), signal)
        else if (!difference.isEmpty) await applier.update(difference, signal)
        if (difference?.elements !== undefined) elementsAlone += 1
        assert.equal(await applier.isInstalled(signal), true)
        assert.equal(applier.way(), by === undefined ? 'nft' : 'netlink')
        listings.push(listing())
        last = ruleset
      }
      return { listings, elementsAlone }
    })
  }

  test('leave the same table by netlink and by nft', async (t) => {
    const rulesets = someRulesets(60)
    const byNft = await listingsOf(undefined, rulesets)
    const byNetlink = await listingsOf(native, rulesets)
    t.diagnostic(`${byNetlink.elementsAlone} of ${rulesets.length} changes were of elements alone`)
    assert.ok(byNetlink.elementsAlone >= 20)
    for (const [at, expected] of byNft.listings.entries()) assert.deepEqual(byNetlink.listings[at], expected, `${at}`)
  })

  test('installed over an old table lead to the new one, whatever was there', async () => {
    const rulesets = someRulesets(12)
    const [last] = rulesets.slice(-1)
    assert.ok(last)
    const fresh = (await listingsOf(undefined, [last])).listings[0]
    for (const old of rulesets.slice(0, -1)) {
      removeTable()
      await withApplier(undefined, (applier) => applier.apply(wholeTableOf(old), signal))
      await withApplier(native, async (applier) => {
        await applier.apply(wholeTableOf(last), signal)
        assert.equal(applier.way(), 'netlink')
      })
      // What only the old one had stays, empty or without effect: no chain is deleted that packets may be in.
      assert.deepEqual(wantedPartOf(listing(), last), wantedPartOf(fresh, last))
      assert.deepEqual(rulesOutside(last), [])
    }
  })
})

/** Of a listing what the ruleset names. */
function wantedPartOf(lines: unknown, { chains, containers }: Ruleset): string[] {
  return (lines as string[]).filter((line) => {
    const entry = JSON.parse(line) as Record<string, { name?: string; chain?: string }>
    const [[kind = '', { name = '', chain = '' } = {}] = []] = Object.entries(entry)
    return kind === 'rule' ? chains.has(chain) : chains.has(name) || containers.has(name)
  })
}

/** Rules that stand in chains that the ruleset does not have. */
function rulesOutside({ chains }: Ruleset): string[] {
  return (listing() as string[]).filter((line) => {
    const { rule } = JSON.parse(line) as { rule?: { chain: string } }
    return rule !== undefined && !chains.has(rule.chain)
  })
}

suite('what the kernel refuses', isIdle, () => {
  const containers = new Map([
    ['service', { shape: ['type inet_proto . ipv4_addr . inet_service : verdict'] }],
    ['slot-0', { shape: ['type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service'] }],
  ])
  const key = 'tcp . 10.96.0.10 . 80'
  const known = { container: 'slot-0', key, value: '10.244.1.2 . 8080' }
  const frame = [
    `add table ip ${tableName}`,
    ...[...containers].map(([name, { shape }]) => `add map ip ${tableName} ${name} { ${shape.join('; ')}; }`),
    `add element ip ${tableName} slot-0 { ${key} : ${known.value} }`,
    '',
  ].join('\n')

  const update = (elements: Omit<ElementChange, 'containers'>, logger?: Logger, text = '') =>
    withApplier(
      native,
      async (applier) => {
        await applier.apply({ text: () => frame }, signal)
        await applier.update(
          { text: () => text || assert.fail('given to nft'), elements: { containers, ...elements } },
          signal,
        )
        return applier.way()
      },
      logger,
    )

  const refusal = (complaint: string | RegExp) => (error: unknown) => {
    assert.ok(error instanceof RulesetRejectedError)
    const said = error.message.replace(/^Cannot apply the ruleset: /, '')
    if (typeof complaint === 'string') assert.equal(said, complaint)
    else assert.match(said, complaint)
    return true
  }

  test('is named, and nothing of the transaction is done', async () => {
    await withApplier(undefined, (applier) => applier.apply({ text: () => frame }, signal))
    const expected = listing()
    const gone = { container: 'slot-0', key: 'udp . 10.96.0.11 . 53' }
    await assert.rejects(
      update({ removed: [known, gone] }),
      refusal('No such file or directory, in "element udp . 10.96.0.11 . 53 of slot-0"'),
    )
    assert.deepEqual(listing(), expected)
    await assert.rejects(
      update({
        added: [
          { ...gone, value: '10.244.1.3 . 53' },
          { ...known, value: '10.244.1.9 . 1' },
        ],
      }),
      // Which words depends on the kernel.
      refusal(/^(File exists|Device or resource busy), in "element tcp \. 10\.96\.0\.10 \. 80 of slot-0"$/),
    )
    const led = { container: 'service', key, value: 'jump nowhere' }
    await assert.rejects(update({ added: [led] }), refusal(`No such file or directory, in "element ${key} of service"`))
    await assert.rejects(update({ emptied: ['nothing'] }), refusal('No such file or directory, in "nothing"'))
    assert.deepEqual(listing(), expected)
  })

  test('but adding what is there, and emptying what is empty, is nothing', async () => {
    assert.equal(await update({ emptied: ['service'], added: [known] }), 'netlink')
  })

  test('for being of another type is given to nft, which is told once', async () => {
    const warnings: string[] = []
    const logger: Logger = {
      ...silentLogger,
      warn: (fields, message) => void warnings.push(`${message}: ${String(fields['error'])}`),
    }
    const mistaken = new Map([['slot-0', { shape: ['type inet_proto . inet_service : ipv4_addr . inet_service'] }]])
    const elements = { containers: mistaken, added: [{ ...known, key: 'tcp . 81' }] }
    const text = `add element ip ${tableName} slot-0 { tcp . 10.96.0.10 . 81 : 10.244.1.2 . 8080 }`
    assert.equal(await update(elements, logger, text), 'nft')
    assert.equal(warnings.length, 1)
    assert.match(
      warnings[0] ?? '',
      /going on with nft: Error: Cannot change element .* of slot-0: the kernel answers EINVAL/,
    )
    assert.match(JSON.stringify(listing()), /81/)
  })

  test('is not the size: a hundred thousand elements are one transaction', async (t) => {
    const added = Array.from({ length: 100_000 }, (_, at) => {
      return {
        container: 'slot-0',
        key: `udp . 10.${at >> 16}.${(at >> 8) & 255}.${at & 255} . 53`,
        value: '10.244.1.2 . 53',
      }
    })
    const startedAt = performance.now()
    assert.equal(await update({ emptied: ['slot-0'], added }), 'netlink')
    t.diagnostic(`${(performance.now() - startedAt).toFixed(0)} ms`)
    const { length } = JSON.stringify(listing()).match(/"udp/g) ?? []
    assert.equal(length, added.length)
  })
})

/** Rulesets that use every kind of container, each a change of the one before. */
function someRulesets(count: number): Ruleset[] {
  const random = repeatableRandom(7)
  const upTo = (most: number) => Math.floor(random() * most)
  const slots = (): Slot[] =>
    Array.from({ length: upTo(5) }, () => ({ address: `10.244.1.${2 + upTo(40)}`, port: 8080 }))
  const choice = (name: string): Choice => {
    const kind = (['random', 'random', 'random', 'random', 'turns', 'source'] as const)[upTo(6)] ?? 'random'
    const affinitySeconds = kind === 'random' && upTo(3) === 0 ? 60 : undefined
    return { name, slots: slots(), kind, affinitySeconds }
  }
  const external = (at: number): RuledExternalAccess => {
    const destinations = [{ protocol: 'tcp', address: `203.0.113.${at}`, port: 443 }] as const
    return {
      protocol: 'tcp',
      destinations,
      nodePort: upTo(2) === 0 ? 30_000 + at : undefined,
      choice: choice(`external-${at}`),
      ...(upTo(2) === 0 && { outside: choice(`outside-${at}`) }),
      loopback: { address: `169.254.64.${at}`, port: 24001 },
      ...(upTo(2) === 0 && { guard: { destinations, networks: ['198.51.100.0/25', `192.0.2.${upTo(250)}/32`] } }),
    }
  }
  const servicePort = (at: number): RuledServicePort => {
    const chosen = choice(`service-${at}`)
    return {
      ...chosen,
      destinations: [{ protocol: upTo(3) === 0 ? 'udp' : 'tcp', address: `10.96.0.${at}`, port: 80 }],
      hairpins: [...new Set(chosen.slots.map(({ address }) => `${address} . ${address}`))],
      ...(upTo(3) === 0 && { external: external(at) }),
    }
  }
  const servicePorts = new Map<string, RuledServicePort>()
  return Array.from({ length: count }, (_, round) => {
    for (const at of round === 0 ? Array.from({ length: 30 }, (_, index) => index + 1) : [1 + upTo(40)]) {
      if (round > 0 && upTo(4) === 0) servicePorts.delete(`${at}`)
      else servicePorts.set(`${at}`, servicePort(at))
    }
    return rulesetOf({
      servicePorts: new Map(servicePorts),
      syntheticRange: '169.254.64.0/19',
      listenPorts: [24001],
      bridgeAddress: '169.254.96.16',
      dns: { address: '169.254.96.16', port: 53 },
      foreignInterfaces: ['eth0'],
      servesForeign: false,
      switchedNetworks: ['10.244.1.0/24'],
    })
  })
}
