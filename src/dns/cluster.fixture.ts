import { type Catalog, createCatalog, type ObjectSink } from '../catalog/index.ts'
import type { Endpoint, EndpointSlice, Service } from '../model/index.ts'

/** A cluster with every kind of Service, for tests. */
export function createSampleCluster(): Catalog & ObjectSink & Disposable {
  const catalog = createCatalog({ debounceMs: 1 })
  catalog.replace('services', sampleServices())
  catalog.replace('endpointSlices', sampleSlices())
  catalog.replace('nodes', [])
  return catalog
}

function service(name: string, changes: Partial<Service>): Service {
  const defaults = { labels: {}, headless: false, publishNotReadyAddresses: false, clusterIPs: [], ports: [] }
  return { namespace: 'shop', name, type: 'ClusterIP', ...defaults, ...changes }
}

function external(name: string, externalName: string): Service {
  return service(name, { type: 'ExternalName', externalName })
}

function sampleServices(): Service[] {
  const web = [
    { name: 'http', protocol: 'tcp', port: 80 },
    { name: 'quic', protocol: 'udp', port: 443 },
  ] as const
  const database = [{ name: 'pg', protocol: 'tcp', port: 5432 }] as const
  return [
    service('web', { clusterIPs: ['10.96.0.10', 'fd00::10'], ports: web }),
    service('unnamed', { clusterIPs: ['10.96.0.11'], ports: [{ name: '', protocol: 'tcp', port: 80 }] }),
    service('many', { clusterIPs: ['10.96.0.13'], ports: web, type: 'LoadBalancer' }),
    service('pets', { headless: true, ports: [...database, { name: 'metrics', protocol: 'tcp', port: 9187 }] }),
    service('six-only', { headless: true, ports: database }),
    service('six', { clusterIPs: ['fd00::12'] }),
    service('db', { headless: true, ports: database }),
    service('early', { headless: true, ports: database, publishNotReadyAddresses: true }),
    service('empty', { headless: true, ports: database }),
    external('to-web', 'web.shop.svc.cluster.local'),
    external('to-to-web', 'to-web.shop.svc.cluster.local'),
    external('to-nothing', 'nothing.shop.svc.cluster.local'),
    external('to-outside', 'www.example.org'),
    external('to-to-outside', 'to-outside.shop.svc.cluster.local'),
    external('to-elsewhere', 'Web.Shop.svc.edge.example.org.'),
    external('circle-a', 'circle-b.shop.svc.cluster.local'),
    external('circle-b', 'circle-a.shop.svc.cluster.local'),
  ]
}

function endpoint(address: string, changes: Partial<Endpoint> = {}): Endpoint {
  return { addresses: [address], ready: true, serving: true, terminating: false, nodeName: 'edge-a', ...changes }
}

function slice(
  serviceName: string,
  endpoints: readonly Endpoint[],
  addressType: 'IPv4' | 'IPv6' = 'IPv4',
): EndpointSlice {
  const ports = [{ name: 'pg', protocol: 'tcp', port: 15432 }] as const
  const name = `${serviceName}-${addressType.toLowerCase()}`
  return { namespace: 'shop', name, serviceName, fromEndpoints: false, addressType, ports, endpoints }
}

function sampleSlices(): EndpointSlice[] {
  const notReady = { ready: false, serving: false }
  return [
    slice('web', [endpoint('10.1.0.1')]),
    slice('db', [endpoint('10.1.0.2', { hostname: 'db-0' }), endpoint('10.1.0.3'), endpoint('10.1.0.4', notReady)]),
    slice('db', [endpoint('fd00::2', { hostname: 'db-0' })], 'IPv6'),
    slice('pets', [
      endpoint('10.1.0.7', { hostname: 'pets-0' }),
      endpoint('10.1.0.8', { hostname: 'pets-1' }),
      endpoint('10.1.0.9', { hostname: 'pets-1' }),
    ]),
    slice('six-only', [endpoint('fd00::3')], 'IPv6'),
    slice('early', [endpoint('10.1.0.5', notReady)]),
    slice('empty', [endpoint('10.1.0.6', notReady)]),
  ]
}
