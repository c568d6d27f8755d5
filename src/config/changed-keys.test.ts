import assert from 'node:assert/strict'
import { test } from 'node:test'
import { changedKeysOf } from './changed-keys.ts'
import { parseConfig } from './load-config.ts'

const parse = (yaml: string) => parseConfig('agent', yaml, 'agent.yaml', { NODE_NAME: 'edge-a1' }).config

test('changed keys are named by their paths, whether they were added, removed or changed', () => {
  const before = { kept: 1, changed: { deep: { value: 1 } }, removed: true }
  const after = { kept: 1, changed: { deep: { value: 2 } }, added: 'x' }
  assert.deepEqual(changedKeysOf(before, after), ['added', 'changed.deep.value', 'removed'])
})

test('a list is one value, and its order counts', () => {
  assert.deepEqual(changedKeysOf({ a: { list: [{ b: 1 }, 2] } }, { a: { list: [{ b: 1 }, 2] } }), [])
  assert.deepEqual(changedKeysOf({ a: { list: [{ b: 1 }, 2] } }, { a: { list: [2, { b: 1 }] } }), ['a.list'])
  assert.deepEqual(changedKeysOf({ a: { list: ['x'] } }, { a: { list: { x: 1 } } }), ['a.list'])
})

test('what is written otherwise but means the same is no change', () => {
  const before = parse('modules: {edgeTunnel: {servers: [mesh.example.org]}}')
  const after = parse('# moved\nlogLevel: info\nmodules:\n  edgeTunnel:\n    servers:\n      - "mesh.example.org"\n')
  assert.deepEqual(changedKeysOf(before, after), [])
})

test('keys of a real document are told apart', () => {
  const before = parse('modules: {edgeTunnel: {servers: [mesh.example.org]}}')
  const after = parse('logLevel: debug\nmodules: {edgeTunnel: {servers: [mesh.example.org, 192.0.2.1], listenPort: 1}}')
  assert.deepEqual(changedKeysOf(before, after), [
    'logLevel',
    'modules.edgeTunnel.listenPort',
    'modules.edgeTunnel.servers',
  ])
})
