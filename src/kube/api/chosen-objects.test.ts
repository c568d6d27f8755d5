import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { KubeObjects, ObjectSink } from '../../catalog/index.ts'
import type { DestinationRule, Pod } from '../../model/index.ts'
import { MergedSelections, selectionKeyOf, Wishes } from './chosen-objects.ts'
import type { KindChoiceBy } from './resources.ts'

const rule = (name: string, host: string): DestinationRule => ({
  namespace: 'shop',
  name,
  host,
  exportTo: [],
  trafficPolicy: {},
  portPolicies: [],
  subsets: [],
  ignored: [],
})
const pod = (name: string): Pod => ({ namespace: 'shop', name, labels: {}, podIPs: [], ready: true })

/** Each rule wishes for the namespaces that its host lists. */
const choice: KindChoiceBy<'destinationRules'> = {
  dependsOn: 'destinationRules',
  wishesOf: ({ host }) => (host === '' ? [] : host.split(',')),
  selectionsFor: (wishes, nodeName) => [...wishes].sort().map((namespace) => ({ namespace, fieldSelector: nodeName })),
}

suite('wishes', () => {
  function createWishes() {
    const changes: string[] = []
    const wishes = new Wishes(choice, () => changes.push('changed'))
    const namespaces = () =>
      wishes.selections('n').map(({ namespace, fieldSelector }) => `${namespace} ${fieldSelector}`)
    return { wishes, namespaces, takeChanges: () => changes.splice(0).length }
  }

  test('are known once the objects that have them were listed', () => {
    const { wishes, namespaces, takeChanges } = createWishes()
    assert.deepEqual([wishes.isKnown, namespaces()], [false, []])
    wishes.replace('destinationRules', [])
    assert.deepEqual([wishes.isKnown, namespaces(), takeChanges()], [true, [], 1])
  })

  test('are those of all objects, each once, and go with the last one that has them', () => {
    const { wishes, namespaces } = createWishes()
    wishes.replace('destinationRules', [rule('r', 'a,b'), rule('s', 'b')])
    assert.deepEqual(namespaces(), ['a n', 'b n'])
    wishes.put('destinationRules', rule('r', 'c'))
    assert.deepEqual(namespaces(), ['b n', 'c n'])
    wishes.put('destinationRules', rule('r', ''))
    wishes.remove('destinationRules', 'shop/s')
    assert.deepEqual(namespaces(), [])
    wishes.put('destinationRules', rule('r', 'd'))
    wishes.replace('destinationRules', [rule('t', 'e')])
    assert.deepEqual(namespaces(), ['e n'])
  })

  test('do not change with objects of other kinds', () => {
    const { wishes, takeChanges } = createWishes()
    wishes.replace('pods', [pod('p')])
    wishes.put('pods', pod('q'))
    wishes.remove('pods', 'shop/p')
    wishes.remove('destinationRules', 'shop/unknown')
    assert.deepEqual([wishes.isKnown, takeChanges()], [false, 0])
  })
})

suite('merged selections', () => {
  function createMerged() {
    const calls: string[] = []
    const sink: ObjectSink = {
      replace: (_kind, objects) => calls.push(`replace ${objects.map(({ name }) => name).join()}`),
      put: (_kind, object: KubeObjects[keyof KubeObjects]) => calls.push(`put ${object.name}`),
      remove: (_kind, key) => calls.push(`remove ${key}`),
    }
    return { merged: new MergedSelections('pods', sink), takeCalls: () => calls.splice(0) }
  }

  test('hand on the first list as one, and later ones as what they add', () => {
    const { merged, takeCalls } = createMerged()
    const listed: string[] = []
    const [one, two] = ['one', 'two'].map((name) => merged.partOf(name, () => listed.push(name)))
    one?.replace('pods', [pod('a'), pod('b')])
    two?.replace('pods', [pod('b'), pod('c')])
    assert.deepEqual(takeCalls(), ['replace a,b', 'put b', 'put c'])
    assert.deepEqual(listed, ['one', 'two'])
    two?.put('pods', pod('d'))
    assert.deepEqual(takeCalls(), ['put d'])
  })

  test('take an object away when none of them has it any more', () => {
    const { merged, takeCalls } = createMerged()
    const [one, two] = ['one', 'two'].map((name) => merged.partOf(name, () => {}))
    one?.replace('pods', [pod('a'), pod('b')])
    two?.replace('pods', [pod('b'), pod('c')])
    takeCalls()
    one?.remove('pods', 'shop/b')
    one?.remove('pods', 'shop/unknown')
    assert.deepEqual(takeCalls(), [])
    two?.remove('pods', 'shop/b')
    assert.deepEqual(takeCalls(), ['remove shop/b'])
    merged.drop('two')
    assert.deepEqual(takeCalls(), ['remove shop/c'])
  })

  test('do not hear of one that was dropped', () => {
    const { merged, takeCalls } = createMerged()
    const late = merged.partOf('one', () => assert.fail('it is dropped'))
    merged.drop('one')
    late.replace('pods', [pod('a')])
    late.put('pods', pod('a'))
    late.remove('pods', 'shop/a')
    assert.deepEqual(takeCalls(), [])
  })

  test('are listed with nothing when nothing is selected, once', () => {
    const { merged, takeCalls } = createMerged()
    merged.listNothing()
    merged.listNothing()
    merged.partOf('one', () => {}).replace('pods', [pod('a')])
    assert.deepEqual(takeCalls(), ['replace ', 'put a'])
  })

  test('are equal when they ask for the same', () => {
    assert.equal(selectionKeyOf({}), selectionKeyOf({}))
    const different = [{}, { namespace: 'a' }, { fieldSelector: 'a' }, { namespace: 'a', fieldSelector: 'a' }]
    assert.equal(new Set(different.map(selectionKeyOf)).size, 4)
  })
})
