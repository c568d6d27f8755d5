import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog } from '../catalog/index.ts'
import type { Service } from '../model/index.ts'
import { createClusterDns } from './cluster-dns.ts'
import { dnsSchema } from './config.ts'

function serviceOf(name: string, address: string, changes: Partial<Service> = {}): Service {
  const ports = [{ name: 'dns', protocol: 'udp', port: 53 }] as const
  const rest = { labels: {}, headless: false, publishNotReadyAddresses: false, clusterIPs: [address], ports }
  return { namespace: 'kube-system', name, type: 'ClusterIP', ...rest, ...changes }
}

function serversOf(services: readonly Service[], cacheDNS: object): readonly string[] {
  using catalog = createCatalog()
  catalog.replace('services', services)
  for (const kind of ['endpointSlices', 'nodes'] as const) catalog.replace(kind, [])
  return createClusterDns(dnsSchema.parse({ cacheDNS }).cacheDNS, catalog)()
}

const services = [
  serviceOf('kube-dns', '10.96.0.10'),
  serviceOf('coredns', '10.96.0.11'),
  serviceOf('resolver', '10.96.0.12', { labels: { 'k8s-app': 'kube-dns' }, clusterIPs: ['fd00::1', '10.96.0.12'] }),
  serviceOf('odd-port', '10.96.0.13', {
    labels: { 'k8s-app': 'kube-dns' },
    ports: [{ name: 'dns', protocol: 'udp', port: 5353 }],
  }),
  serviceOf('kube-dns', '10.96.0.14', { namespace: 'shop' }),
  serviceOf('metrics', '10.96.0.15'),
]

test('the DNS of the cluster is found by its usual names and label, in its own namespace', () => {
  assert.deepEqual(serversOf(services, { enable: true }), [
    '10.96.0.11:53',
    '10.96.0.10:53',
    '10.96.0.13:5353',
    '10.96.0.12:53',
  ])
})

test('configured resolvers come after the found ones, each once, or alone', () => {
  const upstreamServers = ['192.0.2.1', '10.96.0.10:53']
  const [kubeDns] = services
  assert.ok(kubeDns)
  assert.deepEqual(serversOf([kubeDns], { enable: true, upstreamServers }), ['10.96.0.10:53', '192.0.2.1'])
  assert.deepEqual(serversOf(services, { enable: true, autoDetect: false, upstreamServers }), upstreamServers)
})

test('without the cache mode there are none', () => {
  assert.deepEqual(serversOf(services, {}), [])
  assert.deepEqual(serversOf([], { enable: true }), [])
})
