/** What a large cluster costs. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { ApiDouble } from './support/api-double.ts'
import { paths, serviceObject, sliceObject } from './support/api-objects.ts'
import { followDouble, until } from './support/api-source.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

function heapBytes(): number {
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().heapUsed
}

const services = 2_000
const endpointsEach = 10

function fill(double: ApiDouble): void {
  for (let at = 0; at < services; at++) {
    const addresses = Array.from({ length: endpointsEach }, (_, index) => `10.${at >> 8}.${at & 255}.${index + 1}`)
    double.put(paths.services, serviceObject(`service-${at}`, `10.96.${at >> 8}.${at & 255}`))
    double.put(paths.slicesV1, sliceObject(`service-${at}`, addresses))
  }
}

test('an endpoint takes at most 2 KiB of memory, its Service included', async (context) => {
  let before = 0
  await using site = await followDouble({
    prepare(double) {
      fill(double)
      before = heapBytes()
    },
  })
  const startedAt = performance.now()
  await until(
    () => site.catalog.isSynced,
    () => site.source.status(),
  )
  const durationMs = performance.now() - startedAt
  const bytes = (heapBytes() - before) / (services * endpointsEach)
  context.diagnostic(
    `${services * endpointsEach} endpoints: ${bytes.toFixed(0)} bytes each, listed in ${durationMs.toFixed(0)} ms`,
  )
  assert.equal(site.catalog.current.services.size, services)
  assert.ok(bytes < 2048)
})
