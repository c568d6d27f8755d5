import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { repeatableRandom } from '../../runtime/repeatable-random.fixture.ts'
import { createFakeNft, type FakeNft } from './fake-nft.fixture.ts'
import { createComparison, renderTable, replacementOf, wholeTableOf } from './nft-table.ts'
import { type Ruleset, type RulesetInput, rulesetOf } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'

const empty: RulesetInput = {
  servicePorts: new Map(),
  syntheticRange: '169.254.64.0/19',
  bridgeAddress: '169.254.96.16',
  listenPorts: [24001],
  foreignInterfaces: ['eth0'],
  servesForeign: false,
  switchedNetworks: [],
}

const local = (host: number) => ({ address: `10.244.1.${host}`, port: 8080 })

/** A ServicePort by the last numbers of its own address and of its endpoints. */
function entry(address: number, ...endpoints: readonly number[]): RuledServicePort {
  return {
    name: `service-${address}`,
    kind: 'random',
    destinations: [{ protocol: 'tcp', address: `10.96.0.${address}`, port: 80 }],
    slots: endpoints.map(local),
    hairpins: endpoints.map((host) => `10.244.1.${host} . 10.244.1.${host}`),
  }
}

function rulesetWith(
  entries: Readonly<Record<string, RuledServicePort>>,
  changed: Partial<RulesetInput> = {},
): Ruleset {
  return rulesetOf({ ...empty, ...changed, servicePorts: new Map(Object.entries(entries)) })
}

/** As one asks that knows nothing of earlier tables. */
const differenceOf = (before: Ruleset, after: Ruleset) => createComparison<RuledServicePort>()(before, after)

const changeOf = (before: Ruleset, after: Ruleset): string =>
  (differenceOf(before, after) ?? assert.fail('a whole table')).text()

function stateAfter(...texts: readonly string[]) {
  const nft = createFakeNft()
  for (const text of texts) nft.run(text)
  return sorted(nft)
}

const sorted = ({ chains, containers }: FakeNft) => ({
  chains: new Map([...chains].sort()),
  containers: new Map([...containers].sort().map(([name, elements]) => [name, new Map([...elements].sort())])),
})

suite('the whole table', () => {
  test('is never deleted, because established connections would lose their translation', () => {
    const text = renderTable(rulesetWith({ web: entry(10, 2) }))
    assert.doesNotMatch(text, /delete/)
    assert.match(text, /^add table ip edgemesh\nflush table ip edgemesh\n/)
    for (const name of ['service', 'slot-0', 'refused', 'cluster-addresses', 'hairpin']) {
      assert.match(text, new RegExp(`^flush (map|set) ip edgemesh ${name}$`, 'm'))
    }
  })

  test('replaces what was there, also elements of another time', () => {
    const before = renderTable(rulesetWith({ web: entry(10, 2, 3), shop: entry(11) }))
    const after = renderTable(rulesetWith({ web: entry(10, 4) }))
    const { containers } = stateAfter(before, after)
    assert.deepEqual([...(containers.get('slot-0') ?? [])], [['tcp . 10.96.0.10 . 80', '10.244.1.4 . 8080']])
    assert.equal(containers.get('refused')?.size, 0)
  })

  test('names an element once that several parts share', () => {
    const text = renderTable(rulesetWith({ a: entry(10, 2), b: entry(11, 2) }))
    assert.equal(text.split('  10.244.1.2 . 10.244.1.2,').length, 2)
  })

  test('can be made anew before it is filled', () => {
    const wanted = rulesetWith({ web: entry(10, 2) })
    const text = replacementOf(wanted).text()
    assert.ok(text.endsWith(`delete table ip edgemesh\n${renderTable(wanted)}`))
  })
})

suite('the whole table in two steps', () => {
  const stepsOf = (ruleset: Ruleset) => wholeTableOf(ruleset).steps ?? assert.fail('no steps')

  test('serves who was served all the time, and ends like the table at once', () => {
    const nft = createFakeNft()
    const old = rulesetWith({ web: entry(10, 2, 3), shop: entry(11, 4, 5, 6), gone: entry(12) })
    nft.run(renderTable(old))
    const wanted = rulesetWith({ web: entry(10, 2, 7), more: entry(13, 8), none: entry(14) }, { listenPorts: [24002] })
    const { frame, chains, elements } = stepsOf(wanted)
    const before = nft.elements('service')
    nft.run(frame())
    assert.deepEqual(nft.elements('service'), before)
    // The chain of three slots is no longer wanted, but the old elements lead there until they are replaced.
    assert.equal(nft.chains.get('slots-3')?.length, 1)
    const emptiedChains = [...nft.chains.keys()].filter((name) => !chains.has(name))
    assert.ok(emptiedChains.includes('slots-3'))
    nft.change({ ...elements, emptiedChains })
    const inSteps = { containers: nft.containers, chains: nft.chains }
    nft.run(renderTable(wanted))
    assert.deepEqual(inSteps, { containers: nft.containers, chains: nft.chains })
    for (const name of chains) assert.deepEqual(nft.chains.get(name), wanted.chains.get(name), name)
  })

  test('names an element once that several parts share', () => {
    const { elements } = stepsOf(rulesetWith({ a: entry(10, 2), b: entry(11, 2) }))
    const hairpins = [...(elements.added ?? [])].filter(({ container }) => container === 'hairpin')
    assert.deepEqual(hairpins, [{ container: 'hairpin', key: '10.244.1.2 . 10.244.1.2' }])
  })

  test('leaves what packets have filled', () => {
    const ruleset = rulesetWith({ web: { ...entry(10, 2, 3), affinitySeconds: 60 } })
    assert.ok(ruleset.containers.has('affinity'))
    assert.ok(!stepsOf(ruleset).elements.emptied?.includes('affinity'))
  })
})

suite('a change', () => {
  test('of one endpoint touches the elements of that endpoint', () => {
    const web = entry(10, 2, 3)
    const before = rulesetWith({ web, shop: entry(11, 4, 5) })
    const after = rulesetWith({ web, shop: entry(11, 4, 6) })
    const lines = changeOf(before, after).split('\n')
    assert.deepEqual(
      lines.filter((line) => line.startsWith('  ')).map((line) => line.trim()),
      [
        '10.244.1.5 . 10.244.1.5,',
        'tcp . 10.96.0.11 . 80,',
        '10.244.1.6 . 10.244.1.6,',
        'tcp . 10.96.0.11 . 80 : 10.244.1.6 . 8080,',
      ],
    )
  })

  test('of elements alone is told as elements; one of chains or containers as text alone', () => {
    const before = rulesetWith({ web: entry(10, 2, 3), shop: entry(11, 4, 5) })
    const { elements, isEmpty } =
      differenceOf(before, rulesetWith({ web: entry(10, 2, 3), shop: entry(11, 4, 6) })) ?? {}
    assert.equal(isEmpty, false)
    assert.deepEqual([...(elements?.removed ?? [])].map(({ container }) => container).sort(), ['hairpin', 'slot-1'])
    assert.deepEqual(
      [...(elements?.added ?? [])].find(({ container }) => container === 'slot-1'),
      { container: 'slot-1', key: 'tcp . 10.96.0.11 . 80', value: '10.244.1.6 . 8080' },
    )
    const longer = differenceOf(before, rulesetWith({ web: entry(10, 2, 3), shop: entry(11, 4, 5, 6) }))
    assert.equal(longer?.elements, undefined)
    assert.match(longer?.text() ?? '', /^add map ip edgemesh slot-2 /)
  })

  test('of nothing is empty, also when everything was made anew', () => {
    const make = () => rulesetWith({ web: entry(10, 2), shop: entry(11) })
    assert.equal(changeOf(make(), make()), '')
    assert.equal(differenceOf(make(), make())?.isEmpty, true)
  })

  test('keeps an element that another part still names', () => {
    const a = entry(10, 2)
    const text = changeOf(rulesetWith({ a, b: entry(11, 2) }), rulesetWith({ a, b: entry(11, 3) }))
    assert.doesNotMatch(text, /10\.244\.1\.2 \. 10\.244\.1\.2/)
  })

  test('of a chain on a hook needs the whole table', () => {
    const before = rulesetWith({})
    assert.equal(differenceOf(before, rulesetWith({}, { foreignInterfaces: ['eth0', 'eth1'] })), undefined)
    const reshaped = new Map(before.containers).set('refused', { kind: 'set', shape: ['type ipv4_addr'] })
    assert.equal(differenceOf(before, { ...before, containers: reshaped }), undefined)
  })

  test('leads to the same table as installing all of it, whatever changed before', () => {
    const random = repeatableRandom(42)
    const some = () => Array.from({ length: Math.floor(random() * 5) }, () => 2 + Math.floor(random() * 20))
    let entries: Record<string, RuledServicePort> = {}
    let last = rulesetWith(entries)
    const nft = createFakeNft()
    nft.run(renderTable(last))
    const follow = createComparison<RuledServicePort>()
    let elementsAlone = 0
    for (let round = 0; round < 300; round++) {
      const id = `service-${Math.floor(random() * 12)}`
      const { [id]: old, ...others } = entries
      const isRemoved = old !== undefined && random() < 0.3
      entries = isRemoved ? others : { ...others, [id]: entry(Number(id.slice(8)), ...new Set(some())) }
      const next = rulesetWith(entries)
      const difference = follow(last, next) ?? assert.fail('a whole table')
      if (difference.elements === undefined) nft.run(difference.text())
      else nft.change(difference.elements)
      elementsAlone += difference.elements === undefined ? 0 : 1
      last = next
    }
    assert.ok(elementsAlone > 100, `${elementsAlone} changes of elements alone`)
    assert.deepEqual(sorted(nft), stateAfter(renderTable(last)))
  })
})
