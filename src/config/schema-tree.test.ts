import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { roles } from './documents.ts'
import { expectationOf, jsonSchemaOf, nodeAt, type SchemaNode, schemaTreeOf } from './schema-tree.ts'

function leavesOf(node: SchemaNode, path: string): [string, SchemaNode][] {
  const below = Object.entries(node.properties ?? {}).flatMap(([key, child]) => leavesOf(child, `${path}.${key}`))
  const items = node.items?.properties === undefined ? [] : leavesOf(node.items, `${path}[]`)
  return [[path, node], ...below, ...items]
}

suite('the JSON Schema of a role', () => {
  test('describes every key', () => {
    for (const role of roles) {
      const bare = leavesOf(jsonSchemaOf(role), role)
        .filter(([path, node]) => path !== role && !path.endsWith('[]') && node.description === undefined)
        .map(([path]) => path)
      assert.deepEqual(bare, [])
    }
  })

  test('says beside a key that it has no effect, in words instead of marks of our own', () => {
    const node = nodeAt(jsonSchemaOf('agent'), ['modules', 'edgeTunnel', 'finderPeriod'])
    assert.equal(
      node?.description,
      'Seconds between searches for relays. No effect: relays are those that servers and relayNodes name.',
    )
    const rendezvous = nodeAt(jsonSchemaOf('agent'), ['modules', 'edgeTunnel', 'rendezvous'])
    assert.match(rendezvous?.description ?? '', /\. No effect unless identity is derived: only a mesh of derived/)
    const podNetwork = nodeAt(jsonSchemaOf('agent'), ['modules', 'edgeCNI'])
    assert.match(podNetwork?.description ?? '', /\. No effect yet: the pod network follows in a later version\.$/)
    assert.doesNotMatch(JSON.stringify(jsonSchemaOf('agent')), /"(noEffect|ignored|ignoredUnless|expects)":/)
  })

  test('refuses unknown keys and carries limits, choices and defaults', () => {
    const tunnel = nodeAt(jsonSchemaOf('server'), ['modules', 'edgeTunnel'])
    assert.equal(Reflect.get(tunnel ?? {}, 'additionalProperties'), false)
    assert.deepEqual(tunnel?.properties?.['transport']?.enum, ['tcp', 'ws', 'quic'])
    assert.equal(tunnel?.properties?.['listenPort']?.default, 20004)
    assert.equal(tunnel?.properties?.['listenPort']?.maximum, 65535)
  })
})

suite('what a key accepts reads as', () => {
  const cases: readonly (readonly [SchemaNode, string])[] = [
    [{ type: 'integer', minimum: 1, maximum: 9 }, 'an integer in 1..9'],
    [{ type: 'integer', exclusiveMinimum: 0, maximum: Number.MAX_SAFE_INTEGER }, 'an integer of at least 1'],
    [{ type: 'number', exclusiveMinimum: 0 }, 'a number above 0'],
    [{ type: 'number', minimum: 1 }, 'a number of at least 1'],
    [{ type: 'number' }, 'a number'],
    [{ type: 'boolean' }, 'true or false'],
    [{ type: 'array' }, 'a list'],
    [{ type: 'object' }, 'a mapping'],
    [{ type: 'string', enum: ['a', 'b'] }, 'one of a, b'],
    [{ type: 'string', const: 'a' }, '"a"'],
    [{ type: 'string', format: 'ipv4' }, 'an IPv4 address'],
    [{ type: 'string', pattern: '^\\/.*' }, 'an absolute path'],
    [{ type: 'string', minLength: 1 }, 'text that is not empty'],
    [{ type: 'string', expects: 'a poem' }, 'a poem'],
    [{ type: 'string' }, 'text'],
    [{}, 'another value'],
  ]
  for (const [node, text] of cases) test(text, () => assert.equal(expectationOf(node), text))
})

test('a path that the schema does not know has no node, also one of names that all objects have', () => {
  const tree = schemaTreeOf('agent')
  assert.equal(nodeAt(tree, ['modules', 'nothing', 'x']), undefined)
  assert.equal(nodeAt(tree, ['constructor']), undefined)
  assert.equal(nodeAt(tree, ['modules', 0]), undefined)
})
