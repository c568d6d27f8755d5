import assert from 'node:assert/strict'
import { test } from 'node:test'
import { dnsSchema } from './config.ts'

const isValid = (config: object) => dnsSchema.safeParse(config).success

test('without a word DNS answers cluster.local and asks the resolvers of the host', () => {
  const config = dnsSchema.parse({})
  assert.deepEqual(
    [config.enable, config.listenPort, config.clusterDomain, config.moreClusterDomains, config.upstreamServers],
    [true, 53, 'cluster.local', [], []],
  )
  assert.deepEqual([config.stubDomains, config.resolvConf], [[], '/etc/resolv.conf'])
  assert.deepEqual(config.cacheDNS, { enable: false, autoDetect: true, upstreamServers: [], cacheTTL: 30 })
})

test('resolvers are addresses with or without a port, never names', () => {
  for (const server of ['192.0.2.53', '192.0.2.53:5353', '2001:db8::53', '[2001:db8::53]:5353', '[2001:db8::53]']) {
    assert.ok(isValid({ upstreamServers: [server] }), server)
    assert.ok(isValid({ cacheDNS: { upstreamServers: [server] } }), server)
    assert.ok(isValid({ stubDomains: [{ domain: 'corp.example', servers: [server] }] }), server)
  }
  for (const server of ['', 'dns.example.org', '192.0.2.256', '192.0.2.53:0', '192.0.2.53:65536', '[192.0.2.53]:53']) {
    assert.ok(!isValid({ upstreamServers: [server] }), server)
  }
})

test('domains are in lower case, without a dot at the end, and not too long for names below them', () => {
  for (const domain of ['cluster.local', 'local', 'edge-1.example.org', '0.example']) {
    assert.ok(isValid({ clusterDomain: domain, moreClusterDomains: [domain] }), domain)
  }
  for (const domain of ['', 'Cluster.local', 'cluster.local.', '.local', 'a..b', '-a.b', 'a_b.c', 'a'.repeat(201)]) {
    assert.ok(!isValid({ clusterDomain: domain }), domain)
    assert.ok(!isValid({ moreClusterDomains: [domain] }), domain)
    assert.ok(!isValid({ stubDomains: [{ domain, servers: ['192.0.2.53'] }] }), domain)
  }
})

test('a stub domain has at least one resolver and nothing that is not known', () => {
  assert.ok(!isValid({ stubDomains: [{ domain: 'corp.example', servers: [] }] }))
  assert.ok(!isValid({ stubDomains: [{ domain: 'corp.example' }] }))
  assert.ok(!isValid({ stubDomains: [{ domain: 'corp.example', servers: ['192.0.2.53'], ttl: 5 }] }))
})
