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

test('no router is asked by a node with a public address, or for a gateway that is not in its networks', () => {
  assert.deepEqual(routersOf(['192.168.1.1'], [lan, { address: '203.0.113.9', prefixLength: 24 }], new Map()), [])
  assert.deepEqual(routersOf(['192.168.9.1'], [lan], new Map()), [])
  assert.deepEqual(routersOf([], [lan], new Map()), [])
})
