import assert from 'node:assert/strict'
import { test } from 'node:test'
import { routersOf } from './port-mapping.ts'

const lan = { address: '192.168.1.11', prefixLength: 24 }
const pods = { address: '10.244.1.1', prefixLength: 24 }

test('the gateway in a subnet of this node is asked, by PCP and then by UPnP, and the same each time', () => {
  const known = new Map()
  const first = routersOf(['192.168.1.1'], [pods, lan], known)
  assert.deepEqual(
    first.map(({ protocol }) => protocol),
    ['PCP', 'UPnP'],
  )
  assert.deepEqual(routersOf(['192.168.1.1'], [pods, lan], known), first)
  assert.notEqual(routersOf(['192.168.1.1'], [{ ...lan, address: '192.168.1.31' }], known)[0], first[0])
})

test('the routers of a network are remembered for when the node comes back, but not of all networks', () => {
  const known = new Map()
  const homeOf = (address: string) => routersOf(['192.168.1.1'], [{ address, prefixLength: 24 }], known)[0]
  const first = homeOf('192.168.1.11')
  for (let host = 12; host < 27; host++) homeOf(`192.168.1.${host}`)
  assert.equal(homeOf('192.168.1.11'), first)
  homeOf('192.168.1.27')
  assert.equal(known.size, 16)
  assert.notEqual(homeOf('192.168.1.11'), first)
})

test('no router is asked by a node with a public address, or for a gateway that is not in its networks', () => {
  assert.deepEqual(routersOf(['192.168.1.1'], [lan, { address: '203.0.113.9', prefixLength: 24 }], new Map()), [])
  assert.deepEqual(routersOf(['192.168.9.1'], [lan], new Map()), [])
  assert.deepEqual(routersOf([], [lan], new Map()), [])
})
