import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createFakeNft } from './fake-nft.fixture.ts'
import { renderChange, renderReplacement, renderTable } from './nft-table.ts'
import { type Ruleset, type RulesetInput, rulesetOf } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'

const empty: RulesetInput = {
  servicePorts: new Map(),
  syntheticRange: '169.254.64.0/19',
  bridgeAddress: '169.254.96.16',
  listenPort: 24001,
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

const changeOf = (before: Ruleset, after: Ruleset): string =>
  renderChange(before, after) ?? assert.fail('a whole table')

function stateAfter(...texts: readonly string[]) {
  const nft = createFakeNft()
  for (const text of texts) nft.run(text)
  return {
    chains: new Map([...nft.chains].sort()),
    containers: new Map([...nft.containers].sort().map(([name, elements]) => [name, new Map([...elements].sort())])),
  }
}

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
    assert.ok(renderReplacement('X').endsWith('delete table ip edgemesh\nX'))
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

  test('of nothing is empty, also when everything was made anew', () => {
    const make = () => rulesetWith({ web: entry(10, 2), shop: entry(11) })
    assert.equal(changeOf(make(), make()), '')
  })

  test('keeps an element that another part still names', () => {
    const a = entry(10, 2)
    const text = changeOf(rulesetWith({ a, b: entry(11, 2) }), rulesetWith({ a, b: entry(11, 3) }))
    assert.doesNotMatch(text, /10\.244\.1\.2 \. 10\.244\.1\.2/)
  })

  test('of a chain on a hook needs the whole table', () => {
    const before = rulesetWith({})
    assert.equal(renderChange(before, rulesetWith({}, { foreignInterfaces: ['eth0', 'eth1'] })), undefined)
    const reshaped = new Map(before.containers).set('refused', { kind: 'set', shape: ['type ipv4_addr'] })
    assert.equal(renderChange(before, { ...before, containers: reshaped }), undefined)
  })

  test('leads to the same table as installing all of it, whatever changed before', () => {
    const random = randomNumbers(42)
    const some = () => Array.from({ length: Math.floor(random() * 5) }, () => 2 + Math.floor(random() * 20))
    let entries: Record<string, RuledServicePort> = {}
    let last = rulesetWith(entries)
    const texts = [renderTable(last)]
    for (let round = 0; round < 300; round++) {
      const id = `service-${Math.floor(random() * 12)}`
      const { [id]: old, ...others } = entries
      const isRemoved = old !== undefined && random() < 0.3
      entries = isRemoved ? others : { ...others, [id]: entry(Number(id.slice(8)), ...new Set(some())) }
      const next = rulesetWith(entries)
      texts.push(changeOf(last, next))
      last = next
    }
    assert.deepEqual(stateAfter(...texts), stateAfter(renderTable(last)))
  })
})

/** The same numbers for the same seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
