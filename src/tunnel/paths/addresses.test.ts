import assert from 'node:assert/strict'
import { test } from 'node:test'
import { announcedAddressesOf, ownMultiaddressesOf } from './announced-addresses.ts'
import { directAddressesOf } from './direct-addresses.ts'

const lan = [{ address: '192.168.1.11', prefixLength: 24 }]
const all = { listenInterfaces: '*', extraFilteredInterfaces: '' }

function named(name: string, address: string) {
  return { interface: name, address, prefixLength: 24 }
}

function direct(...addresses: string[]): [string, boolean][] {
  return directAddressesOf(addresses, lan, ['/ip4/192.168.1.11/tcp/20006']).map(({ multiaddress, isOnLink }) => {
    return [multiaddress, isOnLink]
  })
}

test('addresses in our subnet come first, then public ones; other private ones are not tried', () => {
  assert.deepEqual(
    direct(
      '/ip4/203.0.113.9/tcp/20006',
      '/ip4/10.0.0.5/tcp/20006',
      '/ip4/192.168.1.12/tcp/20006',
      '/ip4/192.168.2.12/tcp/20006',
      '/ip4/100.64.0.1/tcp/20006',
      '/dns/node.example/tcp/20006',
    ),
    [
      ['/ip4/192.168.1.12/tcp/20006', true],
      ['/ip4/203.0.113.9/tcp/20006', false],
      ['/dns/node.example/tcp/20006', false],
    ],
  )
})

test('an address that is also our own is not tried, for it would reach ourselves', () => {
  assert.deepEqual(direct('/ip4/192.168.1.11/tcp/20006'), [])
})

test('addresses of unknown form are not tried', () => {
  assert.deepEqual(
    direct('/ip4/999.1.1.1/tcp/1', '/ip4/1.2.3.4/udp/1', '/ip4/1.2.3.4/tcp/1/p2p-circuit', '/unix/x'),
    [],
  )
})

test('a host address has no neighbours', () => {
  const host = [{ address: '10.0.0.1', prefixLength: 32 }]
  assert.deepEqual(directAddressesOf(['/ip4/10.0.0.1/tcp/9'], host, []), [])
})

test('container networks, loopback and link-local addresses are not announced', () => {
  const addresses = [
    named('lo', '127.0.0.1'),
    named('eth0', '192.168.1.11'),
    named('br0', '10.1.0.1'),
    named('br-0123456789ab', '172.18.0.1'),
    named('docker0', '172.17.0.1'),
    named('cni0', '10.244.1.1'),
    named('edgemesh0', '169.254.96.16'),
    named('eth1', '169.254.7.7'),
  ]
  const announced = announcedAddressesOf(addresses, all).map(({ address }) => address)
  assert.deepEqual(announced, ['192.168.1.11', '10.1.0.1'])
})

test('named interfaces are announced alone and even when a filter matches; more prefixes can be left out', () => {
  const addresses = [named('eth0', '192.168.1.11'), named('docker0', '172.17.0.1'), named('vpn3', '10.8.0.2')]
  const only = announcedAddressesOf(addresses, { ...all, listenInterfaces: 'docker0, vpn3' })
  assert.deepEqual(
    only.map(({ address }) => address),
    ['172.17.0.1', '10.8.0.2'],
  )
  const without = announcedAddressesOf(addresses, { ...all, extraFilteredInterfaces: 'vpn' })
  assert.deepEqual(
    without.map(({ address }) => address),
    ['192.168.1.11'],
  )
})

test('own multiaddresses begin with the advertised ones, once each, in a stable order', () => {
  const announced = [named('eth1', '192.168.1.12'), named('eth0', '192.168.1.11')]
  assert.deepEqual(ownMultiaddressesOf(['node.example', '192.168.1.12'], announced, 20006), [
    '/dns/node.example/tcp/20006',
    '/ip4/192.168.1.12/tcp/20006',
    '/ip4/192.168.1.11/tcp/20006',
  ])
})
