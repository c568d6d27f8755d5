import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createCatalog, type Schedule } from './index.ts'
import { sampleService, sampleSlice } from './samples.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

test('a snapshot keeps nothing of those before it, whatever changed in between', async () => {
  const due: (() => void)[] = []
  const schedule: Schedule = (_delayMs, publish) => {
    due.push(publish)
    return { [Symbol.dispose]() {} }
  }
  const catalog = createCatalog({ schedule })
  const services = [sampleService()]
  catalog.replace('services', services)
  catalog.replace('endpointSlices', [sampleSlice()])
  catalog.replace('nodes', [])
  const earlier: WeakRef<object>[] = []
  for (let change = 0; change < 20; change++) {
    const clusterIPs = [`10.96.1.${change}`]
    const slice = sampleSlice({ name: `web-${change % 3}` })
    catalog.put('services', sampleService({ clusterIPs }))
    catalog.put('endpointSlices', slice)
    earlier.push(new WeakRef(catalog.current), new WeakRef(catalog.current.services))
    for (const publish of due.splice(0)) publish()
    assert.equal(catalog.current.serviceByClusterIP(`10.96.1.${change}`)?.name, 'web')
  }
  // What a WeakRef has shown is kept to the end of the turn.
  await new Promise((resolve) => setImmediate(resolve))
  collectGarbage()
  const kept = earlier.filter((reference) => reference.deref() !== undefined).length
  assert.equal(kept, 0, `${kept} parts of 20 earlier snapshots are still there`)
})
