/** metaServer on a node whose cloud is away: what it lists is what the agent knows, and Pods tell where they are now. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backendIdOf } from '../../src/model/index.ts'
import { paths, podObject, serviceObject, sliceObject } from './support/api-objects.ts'
import { followDouble, until } from './support/api-source.ts'

const habits = { ignoresLimit: true, oddSelfLink: true, withoutHistory: true }
const config = ({ url }: { readonly url: string }) => ({ metaServer: { server: url } })
const kinds = ['services', 'endpointSlices', 'nodes', 'pods'] as const

test('a plain GET of the Services and the source see the same list', async () => {
  await using site = await followDouble({
    habits,
    config,
    prepare: (double) => {
      for (let at = 0; at < 20; at++) double.put(paths.services, serviceObject(`s${at}`, `10.96.0.${at + 1}`))
    },
  })
  const listed = async () => {
    const response = await fetch(`${site.double.url}${paths.services}`)
    const list = (await response.json()) as { items: { metadata: { name: string }; spec: { clusterIP: string } }[] }
    assert.match(JSON.stringify(list), /"selfLink":"\/core\/v1\/services\/null\/null"/)
    return list.items.map(({ metadata, spec }) => `${metadata.name} ${spec.clusterIP}`).sort()
  }
  await until(() => site.double.watches(paths.services) === 1)
  site.double.put(paths.slicesV1, sliceObject('s0', ['10.0.0.1']))
  await site.synced()
  assert.deepEqual(site.services(), await listed())
  site.double.remove(paths.services, 's3', 'shop')
  site.double.put(paths.services, serviceObject('s4', '10.96.1.4'))
  await until(() => site.services().length === 19 && site.services().includes('s4 10.96.1.4'))
  assert.deepEqual(site.services(), await listed())
})

test('is asked for JSON alone, and for the Pods of the own node, also by a configuration that speaks of protobuf', async () => {
  await using site = await followDouble({
    habits,
    config: ({ url }) => ({ contentType: 'application/vnd.kubernetes.protobuf', metaServer: { server: url } }),
    served: [paths.services, paths.nodes, paths.slicesV1, paths.pods],
    source: { kinds, nodeName: 'edge-0' },
    prepare: (double) => {
      double.put(paths.services, serviceObject('web'))
      double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
      double.put(paths.pods, podObject('web-0', 'edge-0', '10.0.0.1'))
      double.put(paths.pods, podObject('web-1', 'edge-1', '10.0.1.1'))
    },
  })
  await site.synced()
  await until(() => site.double.watches(paths.pods) === 1)
  const accepted = new Set(site.double.requests.map(({ headers }) => headers.accept))
  assert.deepEqual([...accepted], ['application/json'])
  const podRequests = site.double.requests.filter(({ path }) => path === paths.pods)
  assert.deepEqual([...new Set(podRequests.map(({ query }) => query.get('fieldSelector')))], ['spec.nodeName=edge-0'])
  await until(() => site.catalog.current.podOf('shop', 'web-0') !== undefined)
  assert.equal(site.catalog.current.podOf('shop', 'web-1'), undefined)
})

test('after a restart without the cloud local Pods are reached at their new addresses', async () => {
  await using site = await followDouble({
    habits,
    config,
    served: [paths.services, paths.nodes, paths.slicesV1, paths.pods],
    source: { kinds, nodeName: 'edge-0' },
    catalog: { nodeName: 'edge-0' },
    prepare: (double) => {
      double.put(paths.services, serviceObject('web'))
      // What the cloud said last; the Pod on edge-0 has got another address since.
      double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1', '10.0.1.1']))
      double.put(paths.pods, podObject('web-0', 'edge-0', '10.0.0.44'))
    },
  })
  const backends = () => {
    const { current } = site.catalog
    const web = current.services.get('shop/web')
    return (web?.ports ?? []).flatMap((port) => (web ? current.backendsOf(web, port).map(backendIdOf) : [])).join()
  }
  await until(() => backends() === 'edge-0/10.0.0.44:8080,edge-1/10.0.1.1:8080', backends)
  const target = { protocol: 'tcp', nodeName: 'edge-0', port: 8080 } as const
  const portAt = (address: string) => site.catalog.current.servicePortOfTarget({ ...target, address })
  assert.deepEqual([portAt('10.0.0.1'), portAt('10.0.0.44')], [undefined, 'shop/web:http/tcp'])
  await until(() => site.double.watches(paths.pods) === 1 && site.double.watches(paths.slicesV1) === 1)
  site.double.put(paths.pods, podObject('web-0', 'edge-0', '10.0.0.45'))
  await until(() => backends() === 'edge-0/10.0.0.45:8080,edge-1/10.0.1.1:8080', backends)
  // The cloud is back, and its controllers have caught up.
  site.double.put(paths.slicesV1, sliceObject('web', ['10.0.0.45', '10.0.1.2']))
  await until(() => backends() === 'edge-0/10.0.0.45:8080,edge-1/10.0.1.2:8080', backends)
})
