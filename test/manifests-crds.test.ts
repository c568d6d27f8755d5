/** The Istio kinds of manifests/istio-crds.yaml take what is made for Istio, and refuse what EdgeMesh could not read. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { problemsOf } from './crd-schema.ts'

interface Definition {
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly group: string
    readonly names: { readonly plural: string }
    readonly versions: readonly { readonly name: string; readonly served: boolean; readonly storage: boolean }[]
  }
}

const file = new URL('../manifests/istio-crds.yaml', import.meta.url)
const definitions = parseAllDocuments(readFileSync(file, 'utf8')).map((document): Definition => document.toJS())

const objectOf = (kind: string, spec: object, version = 'v1beta1') => ({
  apiVersion: `networking.istio.io/${version}`,
  kind,
  metadata: { name: 'a', namespace: 'b' },
  spec,
})

test('each kind is served in both versions and stored in the newer one', () => {
  assert.equal(definitions.length, 3)
  for (const { metadata, spec } of definitions) {
    assert.equal(metadata.name, `${spec.names.plural}.networking.istio.io`)
    assert.deepEqual(
      spec.versions.map(({ name, served, storage }) => [name, served, storage]),
      [
        ['v1alpha3', true, false],
        ['v1beta1', true, true],
      ],
    )
  }
})

suite('objects that are made for Istio', () => {
  const objects = {
    DestinationRule: {
      host: 'reviews.prod.svc.cluster.local',
      trafficPolicy: {
        loadBalancer: {
          consistentHash: { httpCookie: { name: 'user', ttl: '0s' }, minimumRingSize: 1024, maglev: { tableSize: 5 } },
          localityLbSetting: { enabled: true },
        },
        connectionPool: { tcp: { maxConnections: 100 } },
        portLevelSettings: [{ port: { number: 80 }, loadBalancer: { simple: 'LEAST_CONN' } }],
        outlierDetection: { consecutive5xxErrors: 7, interval: '5m' },
      },
      subsets: [{ name: 'v1', labels: { version: 'v1' }, trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } }],
      exportTo: ['.'],
      workloadSelector: { matchLabels: { app: 'ratings' } },
    },
    Gateway: {
      selector: { istio: 'ingressgateway' },
      servers: [
        {
          port: { number: 443, name: 'https', protocol: 'HTTPS' },
          hosts: ['*.example.org'],
          tls: { mode: 'SIMPLE', serverCertificate: '/etc/cert', privateKey: '/etc/key', subjectAltNames: ['a'] },
        },
      ],
    },
    VirtualService: {
      hosts: ['reviews'],
      gateways: ['mesh', 'prod/gateway'],
      http: [
        {
          match: [{ uri: { prefix: '/w' }, headers: { user: { exact: 'jason' } }, ignoreUriCase: true }],
          rewrite: { uri: '/new' },
          route: [{ destination: { host: 'reviews', subset: 'v2', port: { number: 80 } }, weight: 25, headers: {} }],
          retries: { attempts: 3, perTryTimeout: '2s' },
          fault: { delay: { percentage: { value: 0.1 }, fixedDelay: '5s' } },
          timeout: '5s',
        },
      ],
      tls: [{ match: [{ port: 443, sniHosts: ['a'] }], route: [{ destination: { host: 'a' } }] }],
      tcp: [{ match: [{ port: 27017 }], route: [{ destination: { host: 'mongo', port: { number: 5555 } } }] }],
    },
  }
  for (const [kind, spec] of Object.entries(objects)) {
    test(`of kind ${kind} are taken whole, in both versions`, () => {
      for (const version of ['v1alpha3', 'v1beta1']) {
        assert.deepEqual(problemsOf(definitions, objectOf(kind, spec, version)), [])
      }
    })
  }

  test('may have a status and nothing in their spec', () => {
    for (const kind of Object.keys(objects)) {
      const status = { conditions: [{ type: 'Reconciled' }], observedGeneration: 3 }
      assert.deepEqual(problemsOf(definitions, { ...objectOf(kind, {}), status }), [])
    }
  })
})

test('a field that EdgeMesh reads must have its type', () => {
  for (const [kind, spec, problem] of [
    ['DestinationRule', { host: 7 }, '.spec.host: is integer, not string'],
    [
      'DestinationRule',
      { trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: 'yes' } } } },
      '.spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp: is string, not boolean',
    ],
    ['DestinationRule', { subsets: [{ labels: {} }] }, '.spec.subsets[0].name: is missing'],
    ['Gateway', { servers: { port: 80 } }, '.spec.servers: is object, not array'],
    ['Gateway', { servers: [{ port: { number: '80' } }] }, '.spec.servers[0].port.number: is string, not integer'],
    ['VirtualService', { hosts: '*' }, '.spec.hosts: is string, not array'],
    [
      'VirtualService',
      { http: [{ route: [{ weight: 0.5 }] }] },
      '.spec.http[0].route[0].weight: is number, not integer',
    ],
  ] as const) {
    assert.deepEqual(problemsOf(definitions, objectOf(kind, spec)), [problem])
  }
})

test('fields beside spec and status are dropped, and other versions are not served', () => {
  assert.deepEqual(problemsOf(definitions, { ...objectOf('Gateway', {}), specs: {} }), ['.specs: is dropped'])
  const old = 'networking.istio.io/v1alpha1 Gateway is not served'
  assert.deepEqual(problemsOf(definitions, objectOf('Gateway', {}, 'v1alpha1')), [old])
})
