import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Catalog, createCatalog, type ObjectSink } from '../../catalog/index.ts'
import { sampleEndpoint, sampleService, sampleSlice } from '../../catalog/samples.ts'
import type { OpenRequest } from './open-message.ts'
import { createTargetCheck, type Refusal } from './target-check.ts'

const never = new AbortController().signal

function catalogWith(...addresses: string[]): Catalog & ObjectSink & Disposable {
  const catalog = createCatalog({ debounceMs: 1 })
  catalog.replace('nodes', [])
  catalog.replace('services', [sampleService()])
  catalog.replace('endpointSlices', [sliceOf(addresses)])
  return catalog
}

function sliceOf(addresses: readonly string[]) {
  return sampleSlice({ endpoints: addresses.map((address) => sampleEndpoint(address, { nodeName: 'edge-b' })) })
}

async function check(catalog: Catalog, change: Partial<OpenRequest> = {}, holdMs = 1): Promise<Refusal | undefined> {
  const allowNodePorts = [22]
  const request: OpenRequest = { protocol: 'tcp', nodeName: 'edge-b', address: '10.244.1.5', port: 8080, ...change }
  const forbiddenNetworks = ['198.18.0.0/15']
  return await createTargetCheck({ nodeName: 'edge-b', catalog, allowNodePorts, forbiddenNetworks, holdMs })(
    request,
    never,
  )
}

test('an endpoint of a Service on this node may be reached', async () => {
  using catalog = catalogWith('10.244.1.5')
  assert.equal(await check(catalog), undefined)
})

test('keys for questions may be brought, whatever the address says', async () => {
  using catalog = catalogWith()
  assert.equal(await check(catalog, { kind: 'reach', address: '0.0.0.0', port: 1 }), undefined)
  const elsewhere = await check(catalog, { kind: 'reach', nodeName: 'edge-c', address: '0.0.0.0', port: 1 })
  assert.equal(elsewhere?.reason, 'node-name')
})

test('ports of the node itself may be reached when they are allowed, whatever the address says', async () => {
  using catalog = catalogWith('10.244.1.5')
  assert.equal(await check(catalog, { kind: 'node', address: '0.0.0.0', port: 22 }), undefined)
  for (const port of [23, 8080]) {
    const refusal = await check(catalog, { kind: 'node', port })
    assert.deepEqual([refusal?.reason, refusal?.error.failure], ['node-port', 'forbidden'])
    assert.match(refusal?.error.message ?? '', new RegExp(`port ${port} of edge-b: its .*allowNodePorts`))
  }
  const elsewhere = await check(catalog, { kind: 'node', nodeName: 'edge-c', port: 22 })
  assert.equal(elsewhere?.reason, 'node-name')
  assert.equal((await check(catalog, { port: 22 }))?.reason, 'unknown-target')
})

test('another port, address or node is refused', async () => {
  using catalog = catalogWith('10.244.1.5')
  assert.equal((await check(catalog, { port: 22 }))?.reason, 'unknown-target')
  assert.equal((await check(catalog, { address: '10.244.1.6' }))?.reason, 'unknown-target')
  const refusal = await check(catalog, { nodeName: 'edge-c' })
  assert.equal(refusal?.reason, 'node-name')
  assert.equal(refusal?.error.failure, 'forbidden')
})

for (const address of [
  '127.0.0.1',
  '127.9.9.9',
  '0.0.0.0',
  '169.254.96.16',
  '224.0.0.251',
  '255.255.255.255',
  '198.18.3.4',
  '::1',
  '::',
  '::ffff:127.0.0.1',
  'fe80::1',
  'ff02::1',
  '2002:7f00:1::1',
]) {
  test(`${address} is refused, even as an endpoint of a Service`, async () => {
    using catalog = catalogWith(address)
    const refusal = await check(catalog, { address })
    assert.equal(refusal?.reason, 'address')
    assert.equal(refusal?.error.failure, 'forbidden')
  })
}

test('a target that appears while it is held is served', async () => {
  using catalog = catalogWith()
  const checking = check(catalog, {}, 5000)
  catalog.put('endpointSlices', sliceOf(['10.244.1.5']))
  assert.equal(await checking, undefined)
})

test('a target that does not appear is refused with an error that invites a retry', async () => {
  using catalog = catalogWith()
  const refusal = await check(catalog, {}, 10)
  assert.equal(refusal?.error.failure, 'unknown-target')
  assert.match(refusal?.error.message ?? '', /10\.244\.1\.5:8080 on edge-b: no Service has this endpoint there/)
})
