import assert from 'node:assert/strict'
import { test } from 'node:test'
import { objectProblems, terminationsOf, textOf } from './object-problems.ts'
import { buildRouteTable } from './routing/build-route-table.ts'
import { sampleGateway, sampleRule, sampleServer, sampleTls, sampleVirtualService } from './samples.ts'

const tlsServer = (port: number, credentialName: string, fields: object = {}) =>
  sampleServer({ port, protocol: 'https', tls: sampleTls(credentialName, fields) })
const fine = { problemOf: () => undefined }

test('what objects, Secrets and destinations lack is told once, with whose it is', () => {
  const gateway = sampleGateway({
    problems: ['spec.servers[3]: is missing'],
    ignored: ['spec.x: has no effect'],
    servers: [sampleServer(), tlsServer(443, 'cert'), tlsServer(444, 'cert', { cipherSuites: ['NO_SUCH_SUITE'] })],
  })
  const table = buildRouteTable({
    gateways: [gateway],
    virtualServices: [sampleVirtualService({ http: [sampleRule('a'), sampleRule('b')] })],
    labels: {},
  })
  const problems = objectProblems(
    table,
    { problemOf: () => 'there is no tls.key' },
    { problemOf: () => 'no Service web' },
  )
  assert.deepEqual(problems.map((problem) => `${problem.severity} ${textOf(problem)}`).toSorted(), [
    'error Gateway shop/front: spec.servers[3]: is missing',
    'error Secret shop/cert: there is no tls.key',
    'error VirtualService shop/web: no Service web',
    'notice Gateway shop/front: cipher suite NO_SUCH_SUITE is not known here and left out',
    'notice Gateway shop/front: spec.x: has no effect',
  ])
  assert.equal(problems.find(({ kind }) => kind === 'Secret')?.gateway, 'shop/front')
  assert.deepEqual(
    objectProblems(table, fine, fine).map(({ severity }) => severity),
    ['error', 'notice', 'notice'],
  )
})

test('a Secret that two Gateways name is a problem of both', () => {
  const gateways = ['front', 'back'].map((name, index) =>
    sampleGateway({ name, servers: [tlsServer(443 + index, 'cert')] }),
  )
  const table = buildRouteTable({ gateways, virtualServices: [], labels: {} })
  const problems = objectProblems(table, { problemOf: () => 'is gone' }, fine)
  assert.deepEqual(
    problems.map(({ gateway }) => gateway),
    ['shop/back', 'shop/front'],
  )
})

test('certificates are asked for with the protocols that are spoken inside', () => {
  const tcp = sampleServer({ port: 9443, protocol: 'tls', tls: sampleTls('bytes') })
  const table = buildRouteTable({
    gateways: [sampleGateway({ servers: [tlsServer(443, 'pages'), tcp, sampleServer()] })],
    virtualServices: [],
    labels: {},
  })
  assert.deepEqual(
    terminationsOf(table).map(({ gateway, plan, alpn }) => [gateway, plan.secret, alpn]),
    [
      ['shop/front', 'shop/pages', ['h2', 'http/1.1']],
      ['shop/front', 'shop/bytes', []],
    ],
  )
})
