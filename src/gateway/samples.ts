import { createCatalog } from '../catalog/index.ts'
import type {
  DestinationRule,
  EndpointSlice,
  Gateway,
  GatewayServer,
  HttpMatch,
  HttpRule,
  Pod,
  ServerTls,
  Service,
  VirtualService,
} from '../model/index.ts'

/** Objects for tests: complete, with what a test says about them. */
export function sampleGateway(fields: Partial<Gateway> = {}): Gateway {
  return {
    namespace: 'shop',
    name: 'front',
    selector: {},
    servers: [sampleServer()],
    ignored: [],
    problems: [],
    ...fields,
  }
}

/** Plain HTTP on port 80 for every host. */
export function sampleServer(fields: Partial<GatewayServer> = {}): GatewayServer {
  return { port: 80, protocol: 'http', hosts: [{ namespace: '*', host: '*' }], ...fields }
}

/** HTTP on port 80 for these hosts, as `host` or `namespace/host`. */
export function serverFor(...hosts: readonly string[]): GatewayServer {
  const parsed = hosts.map((text) => {
    const [namespace = '*', host] = text.includes('/') ? text.split('/') : ['*', text]
    return { namespace, host: host ?? '*' }
  })
  return sampleServer({ hosts: parsed })
}

/** TLS ended with a Secret's certificate. */
export function sampleTls(credentialName = 'cert', fields: object = {}): ServerTls {
  return {
    mode: 'terminate',
    credentialName,
    clientCertificate: 'none',
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    cipherSuites: [],
    subjectAltNames: [],
    ...fields,
  }
}

/** A VirtualService of Gateway `front` for every host. */
export function sampleVirtualService(fields: Partial<VirtualService> = {}): VirtualService {
  return {
    namespace: 'shop',
    name: 'web',
    hosts: ['*'],
    gateways: ['front'],
    exportTo: [],
    http: [],
    tls: [],
    tcp: [],
    ignored: [],
    problems: [],
    ...fields,
  }
}

const noChanges = { set: {}, add: {}, remove: [] }

/** A rule that forwards what matches to a Service. */
export function sampleRule(name: string, match?: Partial<HttpMatch>, fields: Partial<HttpRule> = {}): HttpRule {
  const headers = { request: noChanges, response: noChanges }
  return {
    name,
    ...(match === undefined ? {} : { match: [sampleMatch(match)] }),
    action: { kind: 'forward', destinations: [{ host: 'web', port: 80, weight: 1, headers }], mirrors: [] },
    headers,
    ...fields,
  }
}

/** A match of these parts. */
export function sampleMatch(fields: Partial<HttpMatch> = {}): HttpMatch {
  return { ignoreUriCase: false, headers: [], withoutHeaders: [], queryParams: [], gateways: [], ...fields }
}

/** A Service `shop/NAME` with one port `http`. */
export function sampleService(name: string, changes: Partial<Service> = {}): Service {
  return {
    namespace: 'shop',
    name,
    labels: {},
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.1'],
    headless: false,
    ports: [{ name: 'http', protocol: 'tcp', port: 80 }],
    publishNotReadyAddresses: false,
    ...changes,
  }
}

/** Ready endpoints on node `edge`, port 8080. */
export function sampleSlice(serviceName: string, ...addresses: readonly string[]): EndpointSlice {
  return {
    namespace: 'shop',
    name: `${serviceName}-1`,
    serviceName,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'tcp', port: 8080 }],
    endpoints: addresses.map((address) => {
      const pod = { namespace: 'shop', name: `pod-${address}` }
      return { addresses: [address], ready: true, serving: true, terminating: false, nodeName: 'edge', pod }
    }),
  }
}

/** A catalog with these objects, whose changes are seen at once. */
export function sampleCatalog(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  { rules = [], pods = [] }: { readonly rules?: readonly DestinationRule[]; readonly pods?: readonly Pod[] } = {},
) {
  const catalog = createCatalog({
    debounceMs: 0,
    schedule(_delay, callback) {
      callback()
      return { [Symbol.dispose]() {} }
    },
  })
  for (const kind of ['nodes', 'gateways', 'virtualServices', 'secrets'] as const) catalog.replace(kind, [])
  catalog.replace('destinationRules', rules)
  catalog.replace('pods', pods)
  catalog.replace('services', services)
  catalog.replace('endpointSlices', slices)
  return catalog
}
