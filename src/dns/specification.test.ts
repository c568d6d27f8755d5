/*
 * What clients are told, name by name, after version 1.1 of the Kubernetes DNS specification. The cluster is the one of
 * `cluster.fixture.ts`, all in namespace shop:
 *
 *     web        ClusterIP 10.96.0.10 (and an IPv6 one), ports http/tcp 80 and quic/udp 443, endpoint 10.1.0.1
 *     unnamed    ClusterIP 10.96.0.11, one port without a name      six        ClusterIP fd00::12 only
 *     many       LoadBalancer, ClusterIP 10.96.0.13                 six-only   headless, endpoint fd00::3
 *     db         headless, port pg: db-0 at 10.1.0.2, 10.1.0.3, and 10.1.0.4 which is not ready
 *     pets       headless, ports pg and metrics: pets-0 at 10.1.0.7, pets-1 at 10.1.0.8 and 10.1.0.9
 *     early      headless, publishes 10.1.0.5 which is not ready
 *     empty      headless, 10.1.0.6 is not ready
 *     to-...     ExternalName
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Answer as DecodedAnswer, decode, encode, type RecordType } from 'dns-packet'
import { createMetrics, silentLogger } from '../observability/index.ts'
import { createSampleCluster } from './cluster.fixture.ts'
import { dnsSchema } from './config.ts'
import { Forwarder } from './forwarder.ts'
import { Responder } from './responder.ts'

const noData = 'NOERROR'
const noName = 'NXDOMAIN'

/** Name without the domain, type, and the answer: code, records, and after a bar the additional ones. */
const table: readonly (readonly [string, RecordType, string])[] = [
  // 2.2 the version of the schema
  ['dns-version', 'TXT', 'NOERROR TXT=1.1.0'],
  ['dns-version', 'A', noData],
  ['x.dns-version', 'TXT', noName],
  // 2.3.1 Services with a ClusterIP: A, and AAAA without data until the mesh carries IPv6
  ['web.shop.svc', 'A', 'NOERROR A=10.96.0.10'],
  ['WEB.Shop.SVC', 'A', 'NOERROR A=10.96.0.10'],
  ['web.shop.svc', 'AAAA', noData],
  ['web.shop.svc', 'TXT', noData],
  ['web.shop.svc', 'MX', noData],
  ['unnamed.shop.svc', 'A', 'NOERROR A=10.96.0.11'],
  ['many.shop.svc', 'A', 'NOERROR A=10.96.0.13'],
  ['six.shop.svc', 'A', noData],
  ['six.shop.svc', 'AAAA', noData],
  ['nothing.shop.svc', 'A', noName],
  ['web.other.svc', 'A', noName],
  ['web.shop', 'A', noName],
  // 2.3.2 their SRV records: named ports only
  ['_http._tcp.web.shop.svc', 'SRV', 'NOERROR SRV=80:web.shop.svc | A=web.shop.svc:10.96.0.10'],
  ['_quic._udp.web.shop.svc', 'SRV', 'NOERROR SRV=443:web.shop.svc | A=web.shop.svc:10.96.0.10'],
  ['_HTTP._TCP.web.shop.svc', 'SRV', 'NOERROR SRV=80:web.shop.svc | A=web.shop.svc:10.96.0.10'],
  ['_http._udp.web.shop.svc', 'SRV', noName],
  ['_https._tcp.web.shop.svc', 'SRV', noName],
  ['_http._sctp.web.shop.svc', 'SRV', noName],
  ['_http._tcp.web.shop.svc', 'A', noData],
  ['_http._tcp.web.shop.svc', 'AAAA', noData],
  ['_tcp.web.shop.svc', 'SRV', noData],
  ['_tcp.unnamed.shop.svc', 'SRV', noName],
  ['_._tcp.unnamed.shop.svc', 'SRV', noName],
  // 2.3.3 their PTR records
  ['10.0.96.10.in-addr.arpa.', 'PTR', 'NOERROR PTR=web.shop.svc'],
  ['11.0.96.10.in-addr.arpa.', 'PTR', 'NOERROR PTR=unnamed.shop.svc'],
  ['13.0.96.10.IN-ADDR.arpa.', 'PTR', 'NOERROR PTR=many.shop.svc'],
  // 2.4.1 headless Services: an A record for each ready endpoint, and for each host name
  ['db.shop.svc', 'A', 'NOERROR A=10.1.0.2 A=10.1.0.3'],
  ['db.shop.svc', 'AAAA', noData],
  ['pets.shop.svc', 'A', 'NOERROR A=10.1.0.7 A=10.1.0.8 A=10.1.0.9'],
  ['early.shop.svc', 'A', 'NOERROR A=10.1.0.5'],
  ['empty.shop.svc', 'A', noName],
  ['empty.shop.svc', 'AAAA', noName],
  ['six-only.shop.svc', 'A', noData],
  ['db-0.db.shop.svc', 'A', 'NOERROR A=10.1.0.2'],
  ['DB-0.db.shop.svc', 'A', 'NOERROR A=10.1.0.2'],
  ['db-0.db.shop.svc', 'AAAA', noData],
  ['10-1-0-2.db.shop.svc', 'A', 'NOERROR A=10.1.0.2'],
  ['10-1-0-3.db.shop.svc', 'A', 'NOERROR A=10.1.0.3'],
  ['10-1-0-4.db.shop.svc', 'A', noName],
  ['10-1-0-6.empty.shop.svc', 'A', noName],
  ['db-1.db.shop.svc', 'A', noName],
  ['x.db-0.db.shop.svc', 'A', noName],
  ['pets-0.pets.shop.svc', 'A', 'NOERROR A=10.1.0.7'],
  ['pets-1.pets.shop.svc', 'A', 'NOERROR A=10.1.0.8 A=10.1.0.9'],
  // 2.4.2 their SRV records: every ready endpoint with every named port
  [
    '_pg._tcp.db.shop.svc',
    'SRV',
    'NOERROR SRV=15432:10-1-0-3.db.shop.svc SRV=15432:db-0.db.shop.svc | A=10-1-0-3.db.shop.svc:10.1.0.3 A=db-0.db.shop.svc:10.1.0.2',
  ],
  ['_pg._tcp.early.shop.svc', 'SRV', 'NOERROR SRV=15432:10-1-0-5.early.shop.svc | A=10-1-0-5.early.shop.svc:10.1.0.5'],
  ['_pg._udp.db.shop.svc', 'SRV', noName],
  ['_http._tcp.db.shop.svc', 'SRV', noName],
  ['_pg._tcp.db.shop.svc', 'A', noData],
  ['_pg._tcp.empty.shop.svc', 'SRV', noName],
  ['_pg._tcp.six-only.shop.svc', 'SRV', noData],
  // 2.4.3 their PTR records
  ['2.0.1.10.in-addr.arpa.', 'PTR', 'NOERROR PTR=db-0.db.shop.svc'],
  ['3.0.1.10.in-addr.arpa.', 'PTR', 'NOERROR PTR=10-1-0-3.db.shop.svc'],
  ['5.0.1.10.in-addr.arpa.', 'PTR', 'NOERROR PTR=10-1-0-5.early.shop.svc'],
  ['9.0.1.10.in-addr.arpa.', 'PTR', 'NOERROR PTR=pets-1.pets.shop.svc'],
  // 2.5 ExternalName: a CNAME, completed where it stays in the cluster
  ['to-web.shop.svc', 'A', 'NOERROR CNAME=web.shop.svc A=10.96.0.10'],
  ['to-web.shop.svc', 'AAAA', 'NOERROR CNAME=web.shop.svc'],
  ['to-web.shop.svc', 'CNAME', 'NOERROR CNAME=web.shop.svc'],
  ['to-to-web.shop.svc', 'A', 'NOERROR CNAME=to-web.shop.svc CNAME=web.shop.svc A=10.96.0.10'],
  ['to-nothing.shop.svc', 'A', 'NXDOMAIN CNAME=nothing.shop.svc'],
  ['to-outside.shop.svc', 'CNAME', 'NOERROR CNAME=www.example.org.'],
  ['circle-a.shop.svc', 'A', 'SERVFAIL CNAME=circle-b.shop.svc CNAME=circle-a.shop.svc'],
  ['x.to-web.shop.svc', 'A', noName],
  // 2.6 pods by their address
  ['10-1-0-9.shop.pod', 'A', 'NOERROR A=10.1.0.9'],
  ['10-1-0-9.any.pod', 'A', 'NOERROR A=10.1.0.9'],
  ['10-1-0-9.shop.pod', 'AAAA', noData],
  ['10-1-0-256.shop.pod', 'A', noName],
  ['10-1-0.shop.pod', 'A', noName],
  ['pets-0.shop.pod', 'A', noName],
  ['x.10-1-0-9.shop.pod', 'A', noName],
  // names between them exist without data; a star is a name like others, and there is none of that name
  ['', 'A', noData],
  ['svc', 'A', noData],
  ['shop.svc', 'A', noData],
  ['other.svc', 'A', noName],
  ['pod', 'A', noData],
  ['shop.pod', 'A', noData],
  ['*.shop.svc', 'A', noName],
  ['*.svc', 'A', noName],
  ['web.*.svc', 'A', noName],
  ['*.*.svc', 'A', noName],
  ['*.db.shop.svc', 'A', noName],
  ['_*._tcp.web.shop.svc', 'SRV', noName],
  ['*', 'A', noName],
  // what a search list makes of names outside
  ['www.example.org', 'A', noName],
  ['www.example.org.shop.svc', 'A', noName],
  ['www.example.org.svc', 'A', noName],
]

const domain = 'cluster.local'

/** `.cluster.local` cut away, a dot put behind other names. */
const shortOf = (name: string) => (name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : `${name}.`)

/** A name of the table in full. */
function fullOf(name: string): string {
  if (name.endsWith('.')) return name.slice(0, -1)
  return name === '' ? domain : `${name}.${domain}`
}

function textOf(record: DecodedAnswer): string {
  if (record.type === 'A') return `A=${record.data}`
  if (record.type === 'CNAME' || record.type === 'PTR') return `${record.type}=${shortOf(record.data)}`
  if (record.type === 'SRV') return `SRV=${record.data.port}:${shortOf(record.data.target)}`
  return record.type === 'TXT' ? `TXT=${[record.data].flat().join()}` : record.type
}

async function startResponder(config: object = {}): Promise<AsyncDisposable & Pick<Responder, 'answerMessage'>> {
  await using starting = new AsyncDisposableStack()
  const dns = { config: dnsSchema.parse(config), address: '169.254.96.16' }
  const metrics = createMetrics()
  const failures = metrics.counter('failures', 'Failures')
  const upstream = {
    servers: () => ['127.0.0.1:1'],
    resolvConf: '/nonexistent',
    isOwn: () => true,
    timeoutMs: 1,
    failures,
  }
  const forwarder = starting.use(new Forwarder({ ...upstream, logger: silentLogger }))
  const catalog = starting.use(createSampleCluster())
  const responder = starting.use(new Responder({ ...dns, catalog, metrics, forwarder, logger: silentLogger }))
  const running = starting.move()
  return {
    answerMessage: (message) => responder.answerMessage(message),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** Asks with the name in full and checks what every answer of ours has; returns it as text. */
async function ask(responder: Pick<Responder, 'answerMessage'>, name: string, type: RecordType): Promise<string> {
  const query = encode({ type: 'query', id: 7, flags: 0x100, questions: [{ type, name }] })
  const message = await responder.answerMessage(query)
  assert.ok(message)
  const answer = decode(message)
  assert.equal(answer.questions?.[0]?.name, name)
  const code = (answer as { readonly rcode?: string }).rcode ?? ''
  const answers = (answer.answers ?? []).map(textOf)
  // Answers of one type come in any order; those with a CNAME in that of the chain.
  const ordered = answers.some((text) => text.startsWith('CNAME')) ? answers : answers.sort()
  const hasRecords = answers.some((text) => !text.startsWith('CNAME'))
  const isNegative = !hasRecords && code !== 'SERVFAIL' && type !== 'CNAME'
  assert.deepEqual(
    (answer.authorities ?? []).map((record) => `${record.name} ${record.type}`),
    isNegative ? [`${domain} SOA`] : [],
    'an answer without records brings the SOA along',
  )
  const additionals = (answer.additionals ?? []).map((each) => {
    return each.type === 'A' ? `A=${shortOf(each.name)}:${each.data}` : each.type
  })
  return [code, ...ordered, ...(additionals.length === 0 ? [] : ['|', ...additionals.sort()])].join(' ')
}

test(`each of the ${table.length} names is answered as the specification says`, async () => {
  assert.ok(new Set(table.map(([name, type]) => `${name} ${type}`)).size >= 60)
  await using responder = await startResponder()
  for (const [name, type, expected] of table) {
    assert.equal(await ask(responder, fullOf(name), type), expected, `${name} ${type}`)
  }
})

test('every domain of the cluster holds the same names, in its own spelling', async () => {
  await using responder = await startResponder({ moreClusterDomains: ['edge.example.org'] })
  const other = 'shop.svc.edge.example.org'
  const record = async (name: string, type: RecordType) => {
    const message = await responder.answerMessage(encode({ type: 'query', id: 1, questions: [{ type, name }] }))
    assert.ok(message)
    return (decode(message).answers ?? []).map((each) => `${each.name} ${textOf(each)}`)
  }
  assert.deepEqual(await record(`web.${other}`, 'A'), [`web.${other} A=10.96.0.10`])
  assert.deepEqual(await record(`_http._tcp.web.${other}`, 'SRV'), [`_http._tcp.web.${other} SRV=80:web.${other}.`])
  assert.deepEqual(await record('10.0.96.10.in-addr.arpa', 'PTR'), ['10.0.96.10.in-addr.arpa PTR=web.shop.svc'])
  // An ExternalName may lead from one domain to the other, written in any case and with a dot at its end.
  assert.deepEqual(await record('to-elsewhere.shop.svc.cluster.local', 'A'), [
    `to-elsewhere.shop.svc.cluster.local CNAME=web.${other}.`,
    `web.${other} A=10.96.0.10`,
  ])
})
