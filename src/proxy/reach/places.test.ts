import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog } from '../../catalog/index.ts'
import type { EndpointSlice } from '../../model/index.ts'
import { createPlaces, remotePlacesOf } from './places.ts'

type Endpoints = readonly (readonly [node: string | undefined, address: string])[]

function sliceOf(serviceName: string, endpoints: Endpoints, ports: readonly number[] = [8080]): EndpointSlice {
  return {
    namespace: 'shop',
    name: `${serviceName}-1`,
    serviceName,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [
      { name: 'udp', protocol: 'udp', port: 53 },
      ...ports.map((port) => ({ name: `tcp-${port}`, protocol: 'tcp' as const, port })),
    ],
    endpoints: endpoints.map(([nodeName, address]) => {
      const named = nodeName === undefined ? {} : { nodeName }
      return { addresses: [address], ready: true, serving: true, terminating: false, ...named }
    }),
  }
}

/** A catalog that tells at once, and what is read from it. */
function setUp(...slices: readonly EndpointSlice[]) {
  const catalog = createCatalog({ debounceMs: 0, maxDelayMs: 0 })
  catalog.replace('nodes', [])
  catalog.replace('services', [])
  catalog.replace('endpointSlices', slices)
  const follow = createPlaces({
    nodeName: 'edge-a',
    isUsable: (address) => !address.startsWith('169.254.'),
    isWanted: (address) => !address.startsWith('10.99.'),
  })
  return { catalog, places: () => shown(follow(catalog.current)), follow }
}

function shown({ local, remote }: ReturnType<ReturnType<typeof createPlaces>>) {
  return {
    local: [...local].sort(),
    remote: remote.map(({ nodeName, address, tcpPorts }) => `${nodeName} ${address} ${[...tcpPorts].sort()}`).sort(),
  }
}

async function put(catalog: ReturnType<typeof createCatalog>, slice: EndpointSlice): Promise<void> {
  const before = catalog.current
  catalog.put('endpointSlices', slice)
  for (let turn = 0; turn < 1_000 && catalog.current === before; turn++) await new Promise(setImmediate)
}

test('tells endpoints of this node from wanted ones of others, and leaves out what is neither', () => {
  const { catalog, places } = setUp(
    sliceOf('web', [
      ['edge-a', '10.1.0.1'],
      ['edge-b', '10.2.0.1'],
      ['edge-b', '10.99.0.1'],
      [undefined, '192.0.2.7'],
      ['edge-c', '169.254.0.9'],
    ]),
  )
  using _ = catalog
  assert.deepEqual(places(), { local: ['10.1.0.1'], remote: ['edge-b 10.2.0.1 8080'] })
})

test('an address of several Services has the TCP ports of all, until the last of them is gone', async () => {
  const { catalog, places } = setUp(
    sliceOf('web', [['edge-b', '10.2.0.1']], [80, 443]),
    sliceOf('metrics', [['edge-b', '10.2.0.1']], [80]),
  )
  using _ = catalog
  assert.deepEqual(places().remote, ['edge-b 10.2.0.1 443,80'])
  await put(catalog, sliceOf('web', []))
  assert.deepEqual(places().remote, ['edge-b 10.2.0.1 80'])
  await put(catalog, sliceOf('metrics', [['edge-b', '10.2.0.1']], []))
  assert.deepEqual(places().remote, ['edge-b 10.2.0.1 '])
  await put(catalog, sliceOf('metrics', []))
  assert.deepEqual(places().remote, [])
})

test('the same address on two nodes is two places', () => {
  const { catalog, places } = setUp(
    sliceOf('web', [
      ['edge-b', '10.2.0.1'],
      ['edge-c', '10.2.0.1'],
    ]),
  )
  using _ = catalog
  assert.deepEqual(places().remote, ['edge-b 10.2.0.1 8080', 'edge-c 10.2.0.1 8080'])
})

test('parts that did not change are the same objects', async () => {
  const { catalog, follow } = setUp(
    sliceOf('web', [
      ['edge-a', '10.1.0.1'],
      ['edge-b', '10.2.0.1'],
    ]),
  )
  using _ = catalog
  const before = follow(catalog.current)
  await put(catalog, sliceOf('again', [['edge-a', '10.1.0.1']]))
  const again = follow(catalog.current)
  assert.equal(again.local, before.local)
  assert.equal(again.remote, before.remote)
  await put(catalog, sliceOf('again', [['edge-a', '10.1.0.2']]))
  const moved = follow(catalog.current)
  assert.deepEqual([...moved.local].sort(), ['10.1.0.1', '10.1.0.2'])
  assert.equal(moved.remote, before.remote)
})

test('all places on other nodes are told once, for who only counts them', () => {
  const { catalog } = setUp(
    sliceOf('web', [
      ['edge-a', '10.1.0.1'],
      ['edge-b', '10.2.0.1'],
      ['edge-b', '10.99.0.1'],
      ['edge-b', '169.254.1.1'],
      [undefined, '192.0.2.7'],
    ]),
    sliceOf('api', [
      ['edge-b', '10.2.0.1'],
      ['edge-c', '10.2.0.1'],
    ]),
  )
  const isUsable = (address: string) => !address.startsWith('169.254.')
  const places = [...remotePlacesOf(catalog.current, { nodeName: 'edge-a', isUsable })]
  assert.deepEqual(places.map(({ nodeName, address }) => `${nodeName} ${address}`).sort(), [
    'edge-b 10.2.0.1',
    'edge-b 10.99.0.1',
    'edge-c 10.2.0.1',
  ])
})
