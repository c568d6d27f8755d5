import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ObjectParseError } from './field.ts'
import { parseGateway } from './gateway.ts'
import { parseSecret } from './secret.ts'

const metadata = { namespace: 'shop', name: 'front' }

function gatewayOf(...servers: readonly object[]) {
  return parseGateway({ metadata, spec: { selector: { kubeedge: 'edgemesh-gateway' }, servers } })
}

const http = { port: { number: 80, name: 'http', protocol: 'HTTP' }, hosts: ['*'] }
const https = { port: { number: 443, name: 'https', protocol: 'HTTPS' }, hosts: ['*'] }
const usualTls = {
  mode: 'terminate',
  credentialName: 'cert',
  clientCertificate: 'none',
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.3',
  cipherSuites: [],
  subjectAltNames: [],
}

test('a Gateway keeps what is in use', () => {
  const gateway = parseGateway({
    metadata: { ...metadata, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: {
      selector: { app: 'edge' },
      servers: [
        { ...http, name: 'plain', bind: '192.0.2.7', hosts: ['Shop.Example.org.', './*.example.com', 'other/*'] },
      ],
    },
  })
  assert.deepEqual(gateway, {
    ...metadata,
    createdAt: '2026-01-01T00:00:00Z',
    selector: { app: 'edge' },
    servers: [
      {
        port: 80,
        protocol: 'http',
        bind: '192.0.2.7',
        hosts: [
          { namespace: '*', host: 'shop.example.org' },
          { namespace: '.', host: '*.example.com' },
          { namespace: 'other', host: '*' },
        ],
      },
    ],
    ignored: [],
    problems: [],
  })
})

test('every protocol is known in any case, and others are a problem of their server only', () => {
  const protocolOf = (protocol: unknown) => {
    const { servers, problems } = gatewayOf({ ...http, port: { number: 1, protocol } }, http)
    return problems[0] ?? servers[0]?.protocol
  }
  assert.deepEqual(['HTTP', 'http', 'HTTP2', 'GRPC', 'GRPC-Web', 'TCP'].map(protocolOf), [
    'http',
    'http',
    'http2',
    'grpc',
    'http',
    'tcp',
  ])
  assert.match(String(protocolOf('MONGO')), /^spec.servers\[0\].port.protocol: must be one of HTTP, HTTPS/)
  assert.match(String(protocolOf('constructor')), /must be one of/)
  const { servers, problems } = gatewayOf({ ...http, port: { number: 0, protocol: 'HTTP' } }, http, {
    ...http,
    hosts: [],
  })
  assert.equal(servers.length, 1)
  assert.deepEqual(
    problems.map((problem) => problem.split(':')[0]),
    ['spec.servers[0].port.number', 'spec.servers[2].hosts'],
  )
})

test('TLS modes become what the gateway does', () => {
  const cases: readonly (readonly [object | undefined, unknown])[] = [
    [{ mode: 'SIMPLE', credentialName: 'cert' }, usualTls],
    [
      { mode: 'MUTUAL', credentialName: 'cert' },
      { ...usualTls, clientCertificate: 'required' },
    ],
    [
      { mode: 'OPTIONAL_MUTUAL', credentialName: 'cert' },
      { ...usualTls, clientCertificate: 'optional' },
    ],
    [{ credentialName: 'cert' }, { ...usualTls, clientCertificate: 'as-secret' }],
    [{ mode: 'PASSTHROUGH' }, { mode: 'passthrough' }],
    [
      {
        mode: 'SIMPLE',
        credentialName: 'cert',
        minProtocolVersion: 'TLSV1_1',
        maxProtocolVersion: 'TLSV1_2',
        cipherSuites: ['A', 'B'],
        subjectAltNames: ['x'],
      },
      { ...usualTls, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.2', cipherSuites: ['A', 'B'], subjectAltNames: ['x'] },
    ],
    [undefined, /^spec.servers\[0\].tls: is missing, and port.protocol HTTPS needs it/],
    [{}, /credentialName: is missing/],
    [{ mode: 'SIMPLE' }, /credentialName: is missing; certificates are read from Secrets, never from files/],
    [{ mode: 'AUTO_PASSTHROUGH' }, /tls.mode: must not be AUTO_PASSTHROUGH, which needs names of Istio clusters/],
    [{ mode: 'ISTIO_MUTUAL' }, /tls.mode: must not be ISTIO_MUTUAL/],
    [{ mode: 'NONE' }, /tls.mode: must be one of SIMPLE, MUTUAL/],
    [{ mode: 'SIMPLE', credentialName: 'cert', minProtocolVersion: 'SSLV3' }, /minProtocolVersion: must be one of/],
    [
      { mode: 'SIMPLE', credentialName: 'cert', minProtocolVersion: 'TLSV1_3', maxProtocolVersion: 'TLSV1_2' },
      /minProtocolVersion: must not be above maxProtocolVersion/,
    ],
  ]
  for (const [tls, expected] of cases) {
    const { servers, problems } = gatewayOf({ ...https, tls })
    if (expected instanceof RegExp) assert.match(problems.join(), expected)
    else assert.deepEqual(servers[0]?.tls, expected)
  }
})

test('without encryption tls can only redirect', () => {
  assert.deepEqual(gatewayOf({ ...http, tls: { httpsRedirect: true } }).servers[0]?.tls, { mode: 'redirect' })
  assert.equal(gatewayOf({ ...http, tls: {} }).servers[0]?.tls, undefined)
  assert.match(
    gatewayOf({ ...http, tls: { mode: 'SIMPLE' } }).problems.join(),
    /must not be there with port.protocol HTTP/,
  )
})

test('a certificate on a port that is called HTTP or TCP is used, as by the Go system, and told of', () => {
  const tls = { mode: 'MUTUAL', credentialName: 'cert' }
  for (const [name, protocol] of [
    ['HTTP', 'https'],
    ['TCP', 'tls'],
  ] as const) {
    const { servers, ignored, problems } = gatewayOf({ ...http, port: { number: 80, protocol: name }, tls })
    assert.deepEqual([servers[0]?.protocol, problems], [protocol, []])
    assert.deepEqual(servers[0]?.tls, { ...usualTls, clientCertificate: 'required' })
    const words = `is taken for ${protocol.toUpperCase()}, because there is a certificate`
    assert.deepEqual(ignored, [`spec.servers[0].port.protocol: ${words}`])
  }
  const redirects = gatewayOf({ ...http, tls: { ...tls, httpsRedirect: true } })
  assert.equal(redirects.servers[0]?.protocol, 'http')
  for (const name of ['HTTP2', 'GRPC']) {
    const { problems } = gatewayOf({ ...http, port: { number: 80, protocol: name }, tls })
    assert.match(problems.join(), new RegExp(`must not be there with port.protocol ${name}`))
  }
})

test('gRPC-Web is HTTP, which is told', () => {
  const { ignored } = gatewayOf({ ...http, port: { number: 80, protocol: 'grpc-web' } })
  assert.deepEqual(ignored, ['spec.servers[0].port.protocol: GRPC-WEB is served as HTTP; calls pass as they are'])
})

test('fields that mean nothing here are named', () => {
  const { ignored } = parseGateway({
    metadata,
    spec: { extra: 1, servers: [{ ...http, defaultEndpoint: 'unix:///x', port: { ...http.port, targetPort: 8080 } }] },
  })
  assert.deepEqual(
    ignored.map((words) => words.split(':')[0]),
    ['spec.extra', 'spec.servers[0].defaultEndpoint', 'spec.servers[0].port.targetPort'],
  )
})

test('what is no Gateway at all is refused', () => {
  assert.throws(() => parseGateway({ metadata: {} }), ObjectParseError)
  assert.throws(() => parseGateway({ metadata, spec: { selector: 'x' } }), ObjectParseError)
})

test('host patterns that match nothing sensible are refused', () => {
  for (const host of ['', 'a b', 'a.*', '*a.org', '-a.org', 'http://a']) {
    assert.equal(gatewayOf({ ...http, hosts: [host] }).problems.length, 1, host)
  }
})

test('a Secret holds base64 text, also where a file has it in the clear', () => {
  const secret = parseSecret({ metadata, data: { a: 'QQ==' }, stringData: { b: 'B' } })
  assert.deepEqual(secret, { ...metadata, data: { a: 'QQ==', b: 'Qg==' } })
})
