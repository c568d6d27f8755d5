import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseServerAddress, serverHostsOf } from './server-address.ts'

const peerId = '12D3KooWErZ4m27CEinjcnXNvem2KFUJUFRBcd9NdcWnYRqyr1Sn'

for (const [entry, text, multiaddress] of [
  ['mesh.example.org', 'mesh.example.org:20004', '/dns/mesh.example.org/tcp/20004'],
  ['203.0.113.1:443', '203.0.113.1:443', '/ip4/203.0.113.1/tcp/443'],
  ['[2001:db8::1]', '[2001:db8::1]:20004', '/ip6/2001:db8::1/tcp/20004'],
  ['[2001:db8::1]:9', '[2001:db8::1]:9', '/ip6/2001:db8::1/tcp/9'],
] as const) {
  test(`${entry} is ${multiaddress}`, () => {
    assert.deepEqual(parseServerAddress(entry), { text, multiaddress })
  })
}

test('a peer ID pins the server and is no part of its name', () => {
  assert.deepEqual(parseServerAddress(`203.0.113.1/p2p/${peerId}`), {
    text: '203.0.113.1:20004',
    multiaddress: '/ip4/203.0.113.1/tcp/20004',
    peerId,
  })
})

for (const entry of ['', ':20004', 'host:0', 'host:70000', 'host:port', '2001:db8::1', 'a b', 'host/p2p/nobody']) {
  test(`"${entry}" is no server`, () => {
    assert.throws(() => parseServerAddress(entry), { code: 'EDGEMESH_SERVER_ADDRESS' })
  })
}

test('the IPv4 hosts of servers are found, whatever port or identity stands behind them', () => {
  const entries = [
    '192.0.2.1',
    '192.0.2.2:4001',
    `192.0.2.3/p2p/${peerId}`,
    '192.0.2.1:4002',
    'mesh.example.org',
    '[2001:db8::1]',
  ]
  assert.deepEqual([...serverHostsOf(entries)], ['192.0.2.1', '192.0.2.2', '192.0.2.3'])
  assert.throws(() => serverHostsOf(['not an address']), { code: 'EDGEMESH_SERVER_ADDRESS' })
})
