/** The objects on disk, on a real disk that is full or read-only, and with as many as a large cluster has. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { suite, type TestContext, test } from 'node:test'
import { createCatalog, type ObjectLists, objectKinds } from '../../src/catalog/index.ts'
import { type CatalogMemoryOptions, startCatalogMemory } from '../../src/commands/catalog-memory.ts'
import type { EndpointSlice, Service } from '../../src/model/index.ts'
import { silentLogger } from '../../src/observability/index.ts'
import { requireIsolation } from '../lab/isolation.ts'

/** A file system in memory, gone with the test. */
async function mountTmpfs(t: TestContext, options: string): Promise<string> {
  await requireIsolation()
  const path = `/run/edgemesh-disk-${process.pid}`
  mkdirSync(path, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path])
  t.after(() => execFileSync('umount', [path]))
  return path
}

async function startMemory(stateDir: string, options: Partial<CatalogMemoryOptions> = {}) {
  const warnings: string[] = []
  const logger = { ...silentLogger, warn: (_fields: object, message: string) => void warnings.push(message) }
  const catalog = createCatalog()
  const memory = await startCatalogMemory({ catalog, stateDir, logger, delayMs: 1, retryMs: 1, ...options })
  const list = (lists: ObjectLists) => {
    for (const kind of objectKinds) catalog.replace(kind, (lists[kind] ?? []) as never)
  }
  return { catalog, memory, warnings, list, stop: () => memory[Symbol.asyncDispose]() }
}

suite('objects on a disk', () => {
  test('that is full: the old file stays whole, one warning, and stored as soon as there is room', async (t) => {
    const stateDir = await mountTmpfs(t, 'size=256k')
    const first = await startMemory(stateDir)
    first.list(clusterOf(100))
    await first.stop()
    const before = statSync(join(stateDir, 'catalog.json.gz')).size
    const filler = join(stateDir, 'filler')
    assert.throws(() => writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })

    const second = await startMemory(stateDir)
    second.list(clusterOf(2_000))
    await t.waitFor(() => assert.match(second.memory.status().problem ?? '', /ENOSPC/), { timeout: 20_000 })
    assert.deepEqual(second.warnings.length, 1)
    assert.equal(statSync(join(stateDir, 'catalog.json.gz')).size, before)
    const third = await startMemory(stateDir)
    assert.equal(third.catalog.current.services.size, 100)
    await third.stop()

    execFileSync('rm', [filler])
    await t.waitFor(() => assert.equal(second.memory.status().problem, undefined), { timeout: 20_000 })
    await second.stop()
    assert.ok(statSync(join(stateDir, 'catalog.json.gz')).size > before)
    assert.deepEqual(readdirSync(stateDir), ['catalog.json.gz'])
  })

  test('that is read-only: known objects are in force, and new ones live without being stored', async (t) => {
    const stateDir = await mountTmpfs(t, 'size=1m')
    const first = await startMemory(stateDir)
    first.list(clusterOf(10))
    await first.stop()
    execFileSync('mount', ['-o', 'remount,ro', stateDir])
    const { catalog, memory, warnings, list, stop } = await startMemory(stateDir)
    assert.equal(catalog.current.services.size, 10)
    list(clusterOf(20))
    await t.waitFor(() => assert.match(memory.status().problem ?? '', /EROFS/), { timeout: 20_000 })
    await stop()
    assert.deepEqual([catalog.current.services.size, warnings.length], [20, 1])
  })

  test('are in force within a second of the start when there are 10,000 Services with 3 endpoints each', async (t) => {
    const stateDir = await mountTmpfs(t, 'size=64m')
    const first = await startMemory(stateDir, { delayMs: 60_000 })
    first.list(clusterOf(10_000))
    const saving = performance.now()
    await first.stop()
    const savedMs = performance.now() - saving
    const [started, usage] = [performance.now(), process.cpuUsage()]
    const { catalog, stop } = await startMemory(stateDir)
    const loadedMs = performance.now() - started
    const { user, system } = process.cpuUsage(usage)
    const cpuMs = (user + system) / 1_000
    assert.equal(catalog.current.services.size, 10_000)
    const service = catalog.current.services.get('shop/web-9999')
    const [port] = service?.ports ?? []
    assert.ok(service && port)
    assert.equal(catalog.current.backendsOf(service, port).length, 3)
    await stop()
    const { size } = statSync(join(stateDir, 'catalog.json.gz'))
    const times = `loaded in ${loadedMs.toFixed(0)} ms (CPU ${cpuMs.toFixed(0)} ms), saved in ${savedMs.toFixed(0)} ms`
    t.diagnostic(`${times}, ${size} bytes on disk`)
    // The machine may be busy with something else: what counts is the work.
    assert.ok(cpuMs <= 1_000, times)
  })
})

function clusterOf(count: number): ObjectLists {
  const numbers = Array.from({ length: count }, (_, index) => index)
  return { services: numbers.map(serviceOf), endpointSlices: numbers.map(sliceOf), nodes: [] }
}

function serviceOf(index: number): Service {
  return {
    namespace: 'shop',
    name: `web-${index}`,
    labels: { app: `web-${index}`, tier: 'backend' },
    type: 'ClusterIP',
    clusterIPs: [`10.96.${index >> 8}.${index & 255}`],
    headless: false,
    ports: [{ name: 'http', protocol: 'tcp', port: 80 }],
    publishNotReadyAddresses: false,
  }
}

function sliceOf(index: number): EndpointSlice {
  return {
    namespace: 'shop',
    name: `web-${index}-x7f2k`,
    serviceName: `web-${index}`,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'tcp', port: 8080 }],
    endpoints: [1, 2, 3].map((replica) => ({
      addresses: [`10.${replica}.${index >> 8}.${index & 255}`],
      ready: true,
      serving: true,
      terminating: false,
      nodeName: `edge-${(index * replica) % 500}`,
      pod: { namespace: 'shop', name: `web-${index}-6d5f9c7b8-${(index * 7919 + replica).toString(36)}` },
    })),
  }
}
