import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog } from '../catalog/index.ts'
import type { PingAnswer } from '../tunnel/index.ts'
import { pingTargets } from './ping-targets.ts'

function createMesh() {
  const catalog = createCatalog({ debounceMs: 0 })
  for (const kind of ['services', 'endpointSlices', 'nodes'] as const) catalog.replace(kind, [])
  const asked: string[] = []
  const answer: PingAnswer = { path: 'direct', carrier: 'link', roundTripMs: 0.5 }
  const tunnel = {
    ping(node: string) {
      asked.push(node)
      return node === 'edge-gone' ? Promise.reject(new Error('Cannot reach edge-gone')) : Promise.resolve(answer)
    },
  }
  const ping = (target: string) => pingTargets({ target, nodeName: 'edge-a', catalog, tunnel })
  return { catalog, asked, answer, ping }
}

test('a node is asked by its name, and an error is an answer', async () => {
  const { answer, ping } = createMesh()
  assert.deepEqual(await ping('edge-b'), [{ node: 'edge-b', ...answer }])
  assert.deepEqual(await ping('edge-gone'), [{ node: 'edge-gone', error: 'Cannot reach edge-gone' }])
  assert.deepEqual(await ping('edge-a'), [{ node: 'edge-a', error: 'this is the node itself' }])
})

test('a Service stands for the nodes of its endpoints, each once', async () => {
  const { catalog, asked, ping } = createMesh()
  const port = { name: '', protocol: 'tcp', port: 80 } as const
  const service = { namespace: 'shop', name: 'web', labels: {}, type: 'ClusterIP', clusterIPs: ['10.96.0.9'] } as const
  catalog.put('services', { ...service, headless: false, ports: [port], publishNotReadyAddresses: false })
  const endpointOn = (nodeName: string, address: string) => {
    return { addresses: [address], ready: true, serving: true, terminating: false, nodeName }
  }
  const slice = { namespace: 'shop', name: 'web-1', serviceName: 'web', fromEndpoints: false } as const
  const endpoints = [
    endpointOn('edge-b', '10.1.1.1'),
    endpointOn('edge-c', '10.1.1.2'),
    endpointOn('edge-b', '10.1.1.3'),
  ]
  catalog.put('endpointSlices', { ...slice, addressType: 'IPv4', ports: [port], endpoints })
  await new Promise<void>((resolve) => {
    catalog.subscribe(({ services }) => {
      if (services.size > 0) resolve()
    })
  })
  await ping('shop/web')
  assert.deepEqual(asked.sort(), ['edge-b', 'edge-c'])
})

test('a Service that is not known, or has no endpoints on a node, is said to be so', async () => {
  const { catalog, asked, ping } = createMesh()
  const service = { namespace: 'shop', name: 'web', labels: {}, type: 'ClusterIP', clusterIPs: [] } as const
  catalog.put('services', { ...service, headless: false, ports: [], publishNotReadyAddresses: false })
  await new Promise<void>((resolve) => {
    catalog.subscribe(({ services }) => {
      if (services.size > 0) resolve()
    })
  })
  const errorOf = async (target: string) => Object((await ping(target))[0]).error
  assert.match(await errorOf('shop/web'), /^the Service shop\/web has no endpoints/)
  assert.match(await errorOf('shop/none'), /^this node knows no Service shop\/none/)
  assert.match(await errorOf('shop/web:80'), /^this node knows no Service shop\/web:80.*NAMESPACE\/NAME/)
  assert.deepEqual(asked, [])
})

test('without a tunnel the answer says what to set', async () => {
  const { catalog } = createMesh()
  const [result] = await pingTargets({ target: 'edge-b', nodeName: 'edge-a', catalog, tunnel: undefined })
  assert.match(result !== undefined && 'error' in result ? result.error : '', /edgeTunnel\.enable: true/)
})
