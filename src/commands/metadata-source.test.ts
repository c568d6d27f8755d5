import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createCatalog } from '../catalog/index.ts'
import { kubeSchema } from '../kube/config.ts'
import { createHealth, createMetrics, silentLogger } from '../observability/index.ts'
import { agentKinds, type MetadataBase, startMetadataMemory, startMetadataSource } from './metadata-source.ts'

function baseOf(kubeAPIConfig: object): MetadataBase {
  return {
    config: { kubeAPIConfig: kubeSchema.parse(kubeAPIConfig), nodeName: 'edge-a' },
    loggerOf: () => silentLogger,
    metrics: createMetrics(),
    health: createHealth(),
    signal: new AbortController().signal,
  }
}

const context = { build: { version: '1.2.3', commit: 'abc' }, env: {} }

test('a folder of manifests is the source when it is named, and read when it has started', async () => {
  const manifests = mkdtempSync(join(tmpdir(), 'metadata-source-'))
  try {
    const text = '{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1}}'
    writeFileSync(join(manifests, 'web.yaml'), text)
    const rule = '{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: web}, spec: {host: web}}'
    writeFileSync(join(manifests, 'rule.yaml'), rule)
    using catalog = createCatalog()
    const base = baseOf({ manifests })
    await using source = await startMetadataSource(base, context, catalog, agentKinds)
    assert.deepEqual([source.status().kind, catalog.current.services.size], ['manifests', 1])
    assert.deepEqual([...catalog.current.destinationRules.keys()], ['default/web'])
    assert.deepEqual(base.health.waitingFor(), [])
  } finally {
    rmSync(manifests, { recursive: true })
  }
})

test('an API is the source otherwise; readiness waits for it, and nothing else does', async () => {
  const agents: (string | undefined)[] = []
  const isAway = Promise.withResolvers<void>()
  const server = createServer(async ({ url = '', headers }, response) => {
    agents.push(headers['user-agent'])
    await isAway.promise
    if (url.includes('watch=')) response.flushHeaders()
    else response.end('{"kind":"List","metadata":{"resourceVersion":"1"},"items":[]}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    using catalog = createCatalog()
    const base = baseOf({ master: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
    await using source = await startMetadataSource(base, context, catalog, agentKinds)
    assert.equal(source.status().kind, 'api')
    assert.deepEqual(base.health.waitingFor(), ['the first list of objects'])
    const synced = Promise.withResolvers<void>()
    using _subscription = catalog.subscribe(() => catalog.isSynced && synced.resolve())
    isAway.resolve()
    await synced.promise
    assert.deepEqual(base.health.waitingFor(), [])
    assert.ok(agents.every((agent) => agent === 'edgemesh/1.2.3'))
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

test('what an API told is remembered, and what a folder of manifests tells is not', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'metadata-memory-'))
  try {
    using catalog = createCatalog()
    const memoryFor = (kubeAPIConfig: object) => {
      const { config, loggerOf } = baseOf(kubeAPIConfig)
      return startMetadataMemory({ config: { ...config, stateDir }, loggerOf }, catalog)
    }
    assert.equal(await memoryFor({ manifests: '/etc/manifests' }), undefined)
    await using memory = await memoryFor({ master: 'http://127.0.0.1:1' })
    assert.deepEqual(memory?.status(), {})
  } finally {
    rmSync(stateDir, { recursive: true })
  }
})
