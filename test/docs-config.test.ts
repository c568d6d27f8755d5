/** docs/reference/config.md and the examples are what the schemas say. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { renderConfigReference } from '../scripts/generate-docs.ts'
import { openConfig, roleOfFile } from '../src/config/index.ts'

test('docs/reference/config.md is what the schemas make; run `npm run docs`', () => {
  const written = readFileSync(new URL('../docs/reference/config.md', import.meta.url), 'utf8')
  assert.equal(written, renderConfigReference())
})

test('every example of a configuration is valid, and every key in it has an effect', () => {
  const folder = new URL('../examples/config/', import.meta.url)
  const files = globSync('*.yaml', { cwd: folder }).sort()
  assert.deepEqual(files, ['edgemesh-agent.yaml', 'edgemesh-server.yaml'])
  for (const name of files) {
    const file = new URL(name, folder).pathname
    assert.deepEqual(openConfig(roleOfFile(file), file, {}).notices, [])
  }
})
