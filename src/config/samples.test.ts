import assert from 'node:assert/strict'
import { test } from 'node:test'
import { roles, schemas } from './documents.ts'
import { parseConfig } from './load-config.ts'
import { renderDefaultConfig, renderMinimalConfig } from './samples.ts'

const env = { NODE_NAME: 'edge-a1' }

test('the default document is valid and says what an empty one means', () => {
  for (const role of roles) {
    const { config } = parseConfig(role, renderDefaultConfig(role), 'a.yaml', env)
    assert.deepEqual(config, { ...schemas[role].parse({}), nodeName: 'edge-a1' })
  }
})

test('the minimal document is valid, has no notices and turns on what the role is for', () => {
  assert.deepEqual(parseConfig('agent', renderMinimalConfig('agent'), 'a.yaml', env).notices, [])
  assert.deepEqual(parseConfig('server', renderMinimalConfig('server'), 'a.yaml', env).notices, [])
  const { modules } = parseConfig('agent', renderMinimalConfig('agent'), 'a.yaml', env).config
  assert.ok(modules.edgeProxy.enable && modules.edgeTunnel.enable)
  assert.ok(parseConfig('gateway', renderMinimalConfig('gateway'), 'a.yaml', env).config.modules.edgeGateway.enable)
})
