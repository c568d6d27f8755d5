import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSampleCluster } from './cluster.fixture.ts'
import { recordType } from './constants.ts'
import type { Answer } from './records.ts'
import type { AddressOfEndpoint } from './service-records.ts'
import { Zone } from './zone.ts'

const options = { domain: 'cluster.local', ttlSeconds: 30, serverAddress: '169.254.96.16' }
const zone = new Zone(createSampleCluster().current, options)

type TypeName = keyof typeof recordType

/** The answer as text: the code, the answers with foreign names first, and what stands for the SOA. */
function ask(name: string, type: TypeName | number = 'A'): string {
  const answer = zone.answer({ name, type: typeof type === 'number' ? type : recordType[type] })
  return answer === undefined ? 'not ours' : describe(answer)
}

function describe({ rcode, answers, authorities, continuesAt }: Answer): string {
  const codes: Readonly<Record<number, string>> = { 0: 'ok', 2: 'SERVFAIL', 3: 'NXDOMAIN', 4: 'NOTIMP' }
  const records = answers.map((record) => {
    const owner = record.name === undefined ? '' : `${record.name} `
    if (record.type !== 'SRV') return `${owner}${record.type} ${typeof record.data === 'string' ? record.data : '...'}`
    return `${owner}SRV ${record.data.port} ${record.data.target}`
  })
  const soa = authorities.map(({ name, type }) => `(${name} ${type})`)
  return [codes[rcode], ...records, ...soa, ...(continuesAt === undefined ? [] : [`-> ${continuesAt}`])].join(', ')
}

const noData = 'ok, (cluster.local SOA)'
const noName = 'NXDOMAIN, (cluster.local SOA)'
const web = 'web.shop.svc.cluster.local'
const db = 'db.shop.svc.cluster.local'

/** Asserts a table of answers: name and type to text. */
function assertAnswers(expected: readonly (readonly [string, TypeName | number, string])[]): void {
  for (const [name, type, text] of expected) assert.equal(ask(name, type), text, `${name} ${type}`)
}

test('the name of a Service is its ClusterIP', () => {
  assertAnswers([
    [web, 'A', 'ok, A 10.96.0.10'],
    [web, 'ANY', 'ok, A 10.96.0.10'],
    ['unnamed.shop.svc.cluster.local', 'A', 'ok, A 10.96.0.11'],
  ])
})

test('a name that exists has no data of other types, and no IPv6 address, since the mesh carries none', () => {
  assertAnswers([
    [web, 'AAAA', noData],
    [web, 'TXT', noData],
    [web, 65, noData],
    ['six.shop.svc.cluster.local', 'A', noData],
    ['six.shop.svc.cluster.local', 'AAAA', noData],
    [db, 'AAAA', noData],
  ])
})

test('the name of a headless Service is each ready endpoint, or all when it publishes the others', () => {
  assertAnswers([
    [db, 'A', 'ok, A 10.1.0.2, A 10.1.0.3'],
    ['early.shop.svc.cluster.local', 'A', 'ok, A 10.1.0.5'],
    ['empty.shop.svc.cluster.local', 'A', noName],
  ])
  assert.equal(zone.answer({ name: db, type: recordType.A })?.isShuffled, true)
})

test('where this node reaches an endpoint elsewhere, records say so, and its name still says its own address', () => {
  const addressOfEndpoint: AddressOfEndpoint = (service, { addresses }) =>
    service.name === 'db' && addresses[0] === '10.1.0.3' ? '169.254.64.7' : undefined
  const far = new Zone(createSampleCluster().current, { ...options, addressOfEndpoint })
  const textOf = (name: string, type: TypeName) => {
    const answer = far.answer({ name, type: recordType[type] })
    return answer && [describe(answer), ...answer.additionals.map(({ name: owner, data }) => `${owner} ${data}`)]
  }
  assert.deepEqual(textOf(db, 'A'), ['ok, A 10.1.0.2, A 169.254.64.7'])
  assert.deepEqual(textOf(`10-1-0-3.${db}`, 'A'), ['ok, A 169.254.64.7'])
  assert.deepEqual(textOf(`_pg._tcp.${db}`, 'SRV'), [
    `ok, SRV 15432 db-0.${db}, SRV 15432 10-1-0-3.${db}`,
    `db-0.${db} 10.1.0.2`,
    `10-1-0-3.${db} 169.254.64.7`,
  ])
  for (const reverse of ['7.64.254.169', '3.0.1.10']) {
    assert.deepEqual(textOf(`${reverse}.in-addr.arpa`, 'PTR'), [`ok, PTR 10-1-0-3.${db}`])
  }
})

test('an endpoint has a name of its own by host name or address', () => {
  assertAnswers([
    [`db-0.${db}`, 'A', 'ok, A 10.1.0.2'],
    [`10-1-0-2.${db}`, 'A', 'ok, A 10.1.0.2'],
    [`10-1-0-3.${db}`, 'A', 'ok, A 10.1.0.3'],
    [`10-1-0-1.${web}`, 'A', 'ok, A 10.1.0.1'],
    [`db-0.${db}`, 'AAAA', noData],
    [`10-1-0-4.${db}`, 'A', noName],
    [`db-1.${db}`, 'A', noName],
    [`x.db-0.${db}`, 'A', noName],
  ])
})

test('named ports have SRV records: of the Service, or of each endpoint when it is headless', () => {
  assertAnswers([
    [`_http._tcp.${web}`, 'SRV', `ok, SRV 80 ${web}`],
    [`_quic._udp.${web}`, 'SRV', `ok, SRV 443 ${web}`],
    [web, 'SRV', `ok, SRV 80 ${web}, SRV 443 ${web}`],
    [`_pg._tcp.${db}`, 'SRV', `ok, SRV 15432 db-0.${db}, SRV 15432 10-1-0-3.${db}`],
    [`_pg._tcp.${db}`, 'A', noData],
    ['_pg._tcp.empty.shop.svc.cluster.local', 'SRV', noName],
    [`_tcp.${web}`, 'SRV', noData],
    [`_http._udp.${web}`, 'SRV', noName],
    [`_ftp._tcp.${web}`, 'SRV', noName],
    [`_http._sctp.${web}`, 'SRV', noName],
    [`x._http._tcp.${web}`, 'SRV', noName],
    ['unnamed.shop.svc.cluster.local', 'SRV', noData],
    ['_tcp.unnamed.shop.svc.cluster.local', 'SRV', noName],
  ])
})

test('SRV answers bring the addresses of their hosts along', () => {
  const answer = zone.answer({ name: `_pg._tcp.${db}`, type: recordType.SRV })
  assert.deepEqual(
    answer?.additionals.map(({ name, type, data }) => [name, type, data]),
    [
      [`db-0.${db}`, 'A', '10.1.0.2'],
      [`10-1-0-3.${db}`, 'A', '10.1.0.3'],
    ],
  )
})

test('an ExternalName is a CNAME, followed within the cluster and handed on where it leaves it', () => {
  const chained = `to-web.shop.svc.cluster.local CNAME ${web}`
  assertAnswers([
    ['to-web.shop.svc.cluster.local', 'A', `ok, CNAME ${web}, ${web} A 10.96.0.10`],
    [
      'to-to-web.shop.svc.cluster.local',
      'A',
      `ok, CNAME to-web.shop.svc.cluster.local, ${chained}, ${web} A 10.96.0.10`,
    ],
    ['to-web.shop.svc.cluster.local', 'AAAA', `ok, CNAME ${web}, (cluster.local SOA)`],
    ['to-web.shop.svc.cluster.local', 'CNAME', `ok, CNAME ${web}`],
    ['to-nothing.shop.svc.cluster.local', 'A', 'NXDOMAIN, CNAME nothing.shop.svc.cluster.local, (cluster.local SOA)'],
    ['to-outside.shop.svc.cluster.local', 'A', 'ok, CNAME www.example.org, -> www.example.org'],
    ['to-outside.shop.svc.cluster.local', 'CNAME', 'ok, CNAME www.example.org'],
    ['x.to-outside.shop.svc.cluster.local', 'A', noName],
  ])
  assert.match(ask('to-to-outside.shop.svc.cluster.local'), /CNAME www\.example\.org, -> www\.example\.org$/)
})

test('ExternalNames that run in a circle are a failure, not an endless loop', () => {
  assert.match(ask('circle-a.shop.svc.cluster.local'), /^SERVFAIL, CNAME circle-b/)
})

test('the name of a pod says its address', () => {
  assertAnswers([
    ['10-1-0-9.shop.pod.cluster.local', 'A', 'ok, A 10.1.0.9'],
    ['10-1-0-9.shop.pod.cluster.local', 'AAAA', noData],
    ['10-1-0-999.shop.pod.cluster.local', 'A', noName],
    ['10-1-0.shop.pod.cluster.local', 'A', noName],
    ['web-0.shop.pod.cluster.local', 'A', noName],
    ['x.10-1-0-9.shop.pod.cluster.local', 'A', noName],
  ])
})

test('names between the zone and its Services exist without data; others do not exist', () => {
  assertAnswers([
    ['svc.cluster.local', 'A', noData],
    ['shop.svc.cluster.local', 'A', noData],
    ['pod.cluster.local', 'A', noData],
    ['shop.pod.cluster.local', 'A', noData],
    ['dns.cluster.local', 'A', noData],
    ['other.svc.cluster.local', 'A', noName],
    ['web.other.svc.cluster.local', 'A', noName],
    ['nothing.shop.svc.cluster.local', 'A', noName],
    ['web.shop.cluster.local', 'A', noName],
    ['www.example.org.cluster.local', 'A', noName],
    ['x.dns.cluster.local', 'A', noName],
    ['x.dns-version.cluster.local', 'TXT', noName],
    ['..svc.cluster.local', 'A', noName],
  ])
})

test('the zone describes itself', () => {
  assertAnswers([
    ['cluster.local', 'SOA', 'ok, cluster.local SOA ...'],
    ['cluster.local', 'NS', 'ok, NS ns.dns.cluster.local'],
    ['cluster.local', 'A', noData],
    ['ns.dns.cluster.local', 'A', 'ok, A 169.254.96.16'],
    ['dns-version.cluster.local', 'TXT', 'ok, TXT 1.1.0'],
    ['dns-version.cluster.local', 'A', noData],
    ['cluster.local', 252, 'NOTIMP'],
    [web, 251, 'NOTIMP'],
  ])
})

test('reverse names of ClusterIPs and headless endpoints are ours, others are not', () => {
  assertAnswers([
    ['10.0.96.10.in-addr.arpa', 'PTR', `ok, PTR ${web}`],
    ['2.0.1.10.in-addr.arpa', 'PTR', `ok, PTR db-0.${db}`],
    ['3.0.1.10.in-addr.arpa', 'PTR', `ok, PTR 10-1-0-3.${db}`],
    ['4.0.1.10.in-addr.arpa', 'PTR', 'not ours'],
    ['1.0.1.10.in-addr.arpa', 'PTR', 'not ours'],
    ['1.0.0.127.in-addr.arpa', 'PTR', 'not ours'],
    ['0.96.10.in-addr.arpa', 'PTR', 'not ours'],
    ['10.0.96.10.in-addr.arpa', 'A', 'not ours'],
  ])
})

test('names of other domains are not ours, however much they look like it', () => {
  assertAnswers([
    ['www.example.org', 'A', 'not ours'],
    ['notcluster.local', 'A', 'not ours'],
    ['local', 'A', 'not ours'],
    ['', 'NS', 'not ours'],
    ['cluster.local.example.org', 'A', 'not ours'],
  ])
})

test('the domain of the cluster and the TTL are those of the configuration', () => {
  const other = new Zone(createSampleCluster().current, { ...options, domain: 'edge.example.com', ttlSeconds: 5 })
  const [record] = other.answer({ name: 'web.shop.svc.edge.example.com', type: recordType.A })?.answers ?? []
  assert.deepEqual(record, { type: 'A', data: '10.96.0.10', ttlSeconds: 5 })
  assert.equal(other.answer({ name: web, type: recordType.A }), undefined)
  const [soa] = other.answer({ name: 'x.edge.example.com', type: recordType.A })?.authorities ?? []
  assert.equal(soa?.type === 'SOA' && soa.data.minimum, 5)
})
