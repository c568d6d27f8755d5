/** What a gateway says about objects, in their status. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ApiDouble, ApiObject } from './support/api-double.ts'
import { paths } from './support/api-objects.ts'
import { followDouble, until } from './support/api-source.ts'

const path = paths.gatewaysV1
const never = new AbortController().signal
const foreign = { type: 'Reconciled', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' }
const front: ApiObject = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'Gateway',
  metadata: { namespace: 'shop', name: 'front' },
  spec: { selector: {}, servers: [] },
  status: { conditions: [foreign], observedGeneration: '7' },
}

async function followGateways(prepare: (double: ApiDouble) => void = (double) => double.put(path, front)) {
  const site = await followDouble({
    served: [paths.services, paths.nodes, paths.slicesV1, path],
    prepare,
    source: { kinds: ['services', 'nodes', 'endpointSlices', 'gateways'] },
  })
  const gateway = () => site.catalog.current.gateways.get('shop/front')
  const report = (isInForce: boolean, message: string) =>
    site.source.report?.('gateways', 'shop/front', { isInForce, message }, never)
  const statusOf = () => {
    let status: unknown
    site.double.changeSilently(path, (objects) => {
      status = objects.get('shop/front')?.['status']
    })
    return status as { readonly conditions: readonly Record<string, string>[]; readonly observedGeneration: string }
  }
  return { ...site, gateway, report, statusOf }
}

test('a report becomes a condition beside those of others, and comes back with the object', async () => {
  await using site = await followGateways()
  await until(() => site.gateway() !== undefined)
  await site.report(false, 'spec.servers[0]: is missing')
  const [others, ours] = site.statusOf().conditions
  assert.deepEqual(others, foreign)
  const { lastTransitionTime, ...said } = ours ?? {}
  assert.deepEqual(said, {
    type: 'edgemesh.kubeedge.io/InForce',
    status: 'False',
    reason: 'PartsNotInForce',
    message: 'spec.servers[0]: is missing',
  })
  assert.match(lastTransitionTime ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  assert.equal(site.statusOf().observedGeneration, '7')
  await until(() => site.gateway()?.reported?.isInForce === false)
  await site.report(true, 'fine')
  await until(() => site.gateway()?.reported?.isInForce === true)
  assert.deepEqual(
    site.statusOf().conditions.map(({ type, status }) => `${type} ${status}`),
    ['Reconciled True', 'edgemesh.kubeedge.io/InForce True'],
  )
})

test('an object that changed meanwhile is left alone', async () => {
  await using site = await followGateways()
  await until(() => site.gateway() !== undefined)
  site.double.fault = ({ method }) => {
    if (method === 'PATCH') site.double.put(path, { ...front, status: {} })
    return undefined
  }
  await assert.rejects(async () => await site.report(false, 'x'), /409/)
  assert.deepEqual(site.statusOf(), {})
})

test('without the right to write, or without the object, the reason is told', async () => {
  await using site = await followGateways()
  await until(() => site.gateway() !== undefined)
  site.double.fault = ({ path: asked }) => (asked.endsWith('/status') ? { kind: 'status', status: 403 } : undefined)
  await assert.rejects(async () => await site.report(false, 'x'), /shop\/gateways\/front\/status: 403/)
  site.double.fault = () => undefined
  site.double.remove(path, 'front', 'shop')
  await assert.rejects(async () => await site.report(false, 'x'), /404/)
})

test('a status that is no status harms nobody', async () => {
  await using site = await followGateways((double) => double.put(path, { ...front, status: 'odd' }))
  await until(() => site.gateway() !== undefined)
  assert.equal(site.gateway()?.reported, undefined)
})
