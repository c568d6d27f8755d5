import assert from 'node:assert/strict'
import { test } from 'node:test'
import { portalRemovals } from './portal-chains.ts'

const jump = '-A PREROUTING -m comment --comment "handle ClusterIPs" -j KUBE-PORTALS-CONTAINER'
const portal = (address: string) =>
  `-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination ${address}:40001`
const table = (address: string) => [
  '-P PREROUTING ACCEPT',
  '-N DOCKER',
  '-N KUBE-PORTALS-CONTAINER',
  '-N KUBE-PORTALS-HOST',
  '-A PREROUTING -j DOCKER',
  jump,
  portal(address),
  '',
]

test('chains whose rules lead to the bridge address go, with the jumps to them', () => {
  assert.deepEqual(portalRemovals(table('169.254.96.16'), '169.254.96.16'), {
    lines: [
      jump.replace('-A', '-D'),
      '-F KUBE-PORTALS-CONTAINER',
      '-F KUBE-PORTALS-HOST',
      '-X KUBE-PORTALS-CONTAINER',
      '-X KUBE-PORTALS-HOST',
    ],
    chains: ['KUBE-PORTALS-CONTAINER', 'KUBE-PORTALS-HOST'],
  })
})

test("those of a kube-proxy in its old userspace mode stay, and so does everybody else's", () => {
  assert.deepEqual(portalRemovals(table('192.168.1.11'), '169.254.96.16').lines, [])
  assert.deepEqual(portalRemovals(['-N DOCKER', '-A PREROUTING -j DOCKER'], '169.254.96.16').lines, [])
})
