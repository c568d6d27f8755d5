/**
 * Cluster DNS of a node, asked as people and pods ask it, while the outside comes and goes.
 *
 *        wan ── resolver .53 (upstream.example 198.51.100.7)
 *     ┌───┴──────────┐
 *   cloud-1       router-a
 *   resolver         │ 192.168.1.0/24
 *   (other.example,  │
 *    corp.example) edge-a1 ── client-edge-a1 (pod)
 *
 * The agent of edge-a1 reads a resolv.conf of its own, which names the resolver on the WAN, and asks cloud-1 for
 * corp.example only. In the last test a resolver on edge-a1 stands for the cluster's own DNS.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  serviceManifest,
} from '../lab/index.ts'
import type { FloodReport, FloodSettings } from './support/dns-flood.ts'
import { eventually } from './support/site.ts'

const upstream = '203.0.113.53'
const bridge = '169.254.96.16'
const flood = join(import.meta.dirname, 'support', 'dns-flood.ts')
const resolver = join(import.meta.dirname, '..', 'lab', 'servers', 'dns.ts')

let lab: Lab
let agent: LabProcess
let edge: Host
let pod: Host
let resolvConf: string
before(async () => {
  lab = await createLab({ cloud: ['cloud-1'], lans: { a: { nodes: { 'edge-a1': { pods: ['client-edge-a1'] } } } } })
  edge = lab.node('edge-a1')
  pod = lab.pod('client-edge-a1')
  resolvConf = join(edge.dir, 'resolv.conf')
  await writeFile(resolvConf, `nameserver ${upstream}\n`)
  const cloud = lab.node('cloud-1')
  const records = { 'other.example': '198.51.100.8', 'www.corp.example': '198.51.100.9' }
  const other = cloud.spawn([process.execPath, resolver, cloud.address, JSON.stringify(records)])
  await other.waitForLine(/^listening/)
  const ports = [{ name: 'http', port: 80 }]
  await lab.writeManifest('web.yaml', serviceManifest({ name: 'web', clusterIP: '10.96.0.10', ports }))
  const addresses = Array.from({ length: 150 }, (_, index) => ({
    address: `10.20.0.${index + 1}`,
    nodeName: 'edge-a1',
  }))
  const slice = endpointSliceManifest({ serviceName: 'crowd', ports, endpoints: addresses })
  const crowd = serviceManifest({ name: 'crowd', clusterIP: 'None', ports })
  await lab.writeManifest('crowd.yaml', `${crowd}---\n${slice}`)
  const stubDomains = [{ domain: 'corp.example', servers: [cloud.address] }]
  agent = await lab.startAgent('edge-a1', { modules: { edgeDNS: { resolvConf, stubDomains } } })
})
after(() => lab?.[Symbol.asyncDispose]())

interface Answer {
  readonly code: string
  readonly flags: string
  /** Data of the answer section, sorted. */
  readonly data: readonly string[]
  readonly text: string
}

async function dig(host: Host, ...args: string[]): Promise<Answer> {
  const { stdout } = await host.exec(['dig', '+tries=1', '+time=8', `@${bridge}`, ...args], { timeoutMs: 15_000 })
  const answers = /;; ANSWER SECTION:\n([\s\S]*?)\n\n/.exec(stdout)?.[1] ?? ''
  return {
    code: /status: (\w+)/.exec(stdout)?.[1] ?? 'no answer',
    flags: /;; flags: ([\w ]+);/.exec(stdout)?.[1] ?? '',
    data: answers
      .split('\n')
      .flatMap((line) => /\sIN\s+\w+\s+(.+)$/.exec(line)?.[1] ?? [])
      .sort(),
    text: stdout,
  }
}

const web = 'web.default.svc.cluster.local'
const crowd = 'crowd.default.svc.cluster.local'

test('node and pod ask over UDP and TCP, with and without EDNS and cookies', async () => {
  for (const host of [edge, pod]) {
    for (const flags of [['+notcp'], ['+tcp'], ['+noedns'], ['+nocookie'], ['+bufsize=512'], ['+dnssec']]) {
      const { code, data, flags: shown } = await dig(host, ...flags, web, 'A')
      assert.deepEqual([code, data], ['NOERROR', ['10.96.0.10']], `${host.name} ${flags}`)
      assert.match(shown, /\baa\b/)
    }
  }
  assert.equal((await dig(pod, '+edns=1', '+noednsneg', web)).code, 'BADVERS')
})

test('a name that does not exist, and one without such an address, are told apart', async () => {
  const none = await dig(pod, 'none.default.svc.cluster.local', 'A')
  const noData = await dig(pod, web, 'AAAA')
  assert.deepEqual([none.code, noData.code, noData.data], ['NXDOMAIN', 'NOERROR', []])
  for (const { text } of [none, noData]) assert.match(text, /AUTHORITY SECTION:\ncluster\.local\.\s+30\s+IN\s+SOA/)
})

test('an answer too long for a datagram says so and comes whole over TCP', async () => {
  const cut = await dig(pod, '+ignore', crowd)
  assert.match(cut.flags, /\btc\b/)
  assert.ok(cut.data.length > 10 && cut.data.length < 150, `${cut.data.length} addresses`)
  const whole = await dig(pod, crowd)
  assert.equal(new Set(whole.data).size, 150)
})

test('a thousand questions at once are all answered', async (t) => {
  const questions = [
    { name: web, type: 'A', rcode: 'NOERROR', data: '10.96.0.10' },
    { name: 'none*.default.svc.cluster.local', type: 'A', rcode: 'NXDOMAIN' },
    { name: 'upstream.example', type: 'A', rcode: 'NOERROR', data: '198.51.100.7' },
    { name: web, type: 'AAAA', rcode: 'NOERROR' },
  ]
  const settings: FloodSettings = { server: bridge, questions, count: 1000, sockets: 20 }
  const { stdout, stderr } = await pod.exec([process.execPath, flood, JSON.stringify(settings)], { timeoutMs: 30_000 })
  assert.notEqual(stdout, '', stderr)
  const report: FloodReport = JSON.parse(stdout)
  t.diagnostic(`${report.resent} questions were asked again`)
  assert.deepEqual([report.answered, report.wrong], [1000, []])
})

test('DNS leaves no trace in connection tracking', async () => {
  for (const flag of ['+notcp', '+tcp']) await dig(pod, flag, web)
  await dig(pod, 'traced.upstream.example')
  const { stdout } = await edge.exec(['sh', '-c', 'cat /proc/net/nf_conntrack 2>/dev/null || conntrack -L 2>/dev/null'])
  assert.match(stdout, new RegExp(`dst=${upstream.replaceAll('.', '\\.')} .*dport=53 `), 'tracking is at work')
  assert.doesNotMatch(stdout, new RegExp(`dst=${bridge.replaceAll('.', '\\.')} .*dport=53 `))
  const { stdout: rules } = await edge.exec(['nft', 'list', 'table', 'ip', 'edgemesh'])
  assert.match(rules, /ip daddr 169\.254\.96\.16 .*dport 53 notrack/)
  assert.match(rules, /ip saddr 169\.254\.96\.16 .*sport 53 notrack/)
})

test('other names come from the resolver of the host, long ones over TCP, and those of a stub domain from its own', async () => {
  assert.deepEqual((await dig(pod, 'upstream.example')).data, ['198.51.100.7'])
  assert.equal((await dig(pod, 'none.upstream.example')).code, 'NXDOMAIN')
  assert.equal((await dig(pod, 'big.upstream.example', 'TXT')).data[0]?.length, 12 * 253 - 1)
  assert.deepEqual((await dig(pod, 'www.corp.example')).data, ['198.51.100.9'])
  assert.equal((await dig(pod, 'other.example')).code, 'NXDOMAIN')
})

test('another resolv.conf counts from the next second on', async () => {
  await writeFile(resolvConf, `nameserver ${lab.node('cloud-1').address}\n`)
  await eventually(10_000, async () => assert.deepEqual((await dig(pod, 'other.example')).data, ['198.51.100.8']))
  await writeFile(resolvConf, `nameserver ${upstream}\n`)
  await eventually(10_000, async () => assert.deepEqual((await dig(pod, 'upstream.example')).data, ['198.51.100.7']))
})

test('a resolv.conf that leads back here is found out, warned of once, and not followed', async () => {
  // Another address of this node, where something forwards everything to the bridge address.
  const loop = `
    const { createSocket } = require('node:dgram')
    const out = createSocket('udp4')
    const waiting = new Map()
    const inside = createSocket('udp4').on('message', (question, from) => {
      waiting.set(question.readUInt16BE(), from)
      out.send(question, 53, '${bridge}')
    })
    out.on('message', (answer) => {
      const to = waiting.get(answer.readUInt16BE())
      if (to) inside.send(answer, to.port, to.address)
    })
    inside.bind(53, '127.0.0.53', () => console.log('listening'))`
  const forwarder = edge.spawn([process.execPath, '-e', loop])
  await forwarder.waitForLine(/^listening/)
  await writeFile(resolvConf, `nameserver 127.0.0.53\nnameserver ${upstream}\n`)
  await delay(1100)
  await dig(pod, 'wake.upstream.example')
  const warning = JSON.parse(await agent.waitForLine(/leads back to this server/))
  assert.equal(warning.address, '127.0.0.53:53')
  assert.equal((await dig(pod, 'fresh.upstream.example')).code, 'NXDOMAIN')
  await writeFile(resolvConf, `nameserver ${upstream}\n`)
  await eventually(10_000, async () => assert.deepEqual((await dig(pod, 'upstream.example')).data, ['198.51.100.7']))
})

test('with everything outside away, cluster names are answered as ever, known names stale, and unknown ones fail', async () => {
  assert.deepEqual((await dig(pod, 'upstream.example')).data, ['198.51.100.7'])
  await lab.cutWan('a')
  // No resolver: what is known is stale at once.
  await writeFile(resolvConf, `nameserver ${lab.node('cloud-1').address}\n`)
  await delay(1100)
  assert.equal((await dig(pod, 'unknown.example')).code, 'SERVFAIL')
  const stale = await dig(pod, 'upstream.example')
  assert.deepEqual([stale.code, stale.data], ['NOERROR', ['198.51.100.7']])
  assert.match(stale.text, /upstream\.example\.\s+30\s+IN\s+A/)
  for (const flag of ['+notcp', '+tcp']) assert.deepEqual((await dig(pod, flag, web)).data, ['10.96.0.10'])
  assert.equal((await dig(pod, 'none.default.svc.cluster.local')).code, 'NXDOMAIN')
  await lab.restoreWan('a')
  await eventually(40_000, async () => assert.deepEqual((await dig(pod, 'other.example')).data, ['198.51.100.8']))
})

test('in front of the cluster’s own DNS everything is asked there and cached, and edgemesh answers while it is away', async () => {
  const records = { 'outside.example': '198.51.100.20', [web]: '10.96.99.99' }
  const clusterDns = edge.spawn([process.execPath, resolver, edge.address, JSON.stringify(records)])
  await clusterDns.waitForLine(/^listening/)
  const ports = (['UDP', 'TCP'] as const).map((protocol) => ({ name: protocol.toLowerCase(), port: 53, protocol }))
  const place = { namespace: 'kube-system', ports }
  const service = serviceManifest({ ...place, name: 'kube-dns', clusterIP: '10.96.0.53' })
  const endpoints = [{ address: edge.address, nodeName: 'edge-a1' }]
  const slice = endpointSliceManifest({ ...place, serviceName: 'kube-dns', endpoints })
  await lab.writeManifest('kube-dns.yaml', `${service}---\n${slice}`)
  await agent.stop()
  const cacheDNS = { enable: true, cacheTTL: 8 }
  agent = await lab.startAgent('edge-a1', { modules: { edgeDNS: { resolvConf, cacheDNS } } })

  assert.deepEqual((await dig(pod, web)).data, ['10.96.99.99'])
  assert.deepEqual((await dig(pod, 'outside.example')).data, ['198.51.100.20'])
  // The resolver of the host knows it, but is not asked.
  assert.equal((await dig(pod, 'upstream.example')).code, 'NXDOMAIN')

  await clusterDns.stop('SIGKILL')
  const ttlOfKnown = async () => {
    const { data, text } = await dig(pod, 'outside.example')
    assert.deepEqual(data, ['198.51.100.20'])
    return Number(/outside\.example\.\s+(\d+)\s+IN\s+A/.exec(text)?.[1])
  }
  // The resolver has said 60 s. What is not in the cache any more is told with 30: stale, but better than nothing.
  const ttl = await ttlOfKnown()
  assert.ok(ttl > 30, `${ttl} s`)
  await eventually(20_000, async () => assert.equal(await ttlOfKnown(), 30))
  assert.equal(new Set((await dig(pod, '+tcp', crowd)).data).size, 150)
  assert.equal((await dig(pod, 'unknown.example')).code, 'SERVFAIL')
})
