import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Carrier } from '../flows/carrier.ts'
import type { Link } from '../links/link.ts'
import type { PeerLinks } from '../links/peer-links.ts'
import { LinkCarriers } from './link-carriers.ts'
import { linkFactsOf } from './link-facts.ts'

const peer = { peerId: 'peer' } as PeerLinks
const linkOf = (path: string) => ({ path }) as Link

test('the carriers of a link are made once, and anew when its node or its relay has another name', () => {
  const hedged: Carrier[] = []
  const carriers = new LinkCarriers((_way, plain) => {
    hedged.push(plain)
    return plain
  })
  const way = { nodeName: 'edge-b', peer, link: linkOf('relayed via one'), relay: 'one' }
  const first = carriers.of(way)
  assert.equal(carriers.of({ ...way }), first)
  assert.deepEqual([first.plain.peerId, first.plain.path, hedged.length], ['peer', 'relayed via one', 1])
  assert.notEqual(carriers.of({ ...way, relay: undefined }), first)
  assert.notEqual(carriers.of({ ...way, nodeName: 'edge-c' }), first)
  assert.notEqual(carriers.of({ ...way, link: linkOf('direct') }), carriers.of(way))
})

test('the facts of links are their number, their bytes and the shortest round trip that was measured', () => {
  const links = new Set([{ roundTripMs: 7 }, { roundTripMs: undefined }, { roundTripMs: 3 }] as Link[])
  const bytes = { read: 5, written: 6 }
  assert.deepEqual(linkFactsOf({ links, bytes }), { count: 3, bytesSent: 6, bytesReceived: 5, roundTripMs: 3 })
  const unmeasured = new Set([{ roundTripMs: undefined }] as Link[])
  assert.deepEqual(linkFactsOf({ links: unmeasured, bytes }), { count: 1, bytesSent: 6, bytesReceived: 5 })
  assert.equal(linkFactsOf({ links: new Set(), bytes }), undefined)
})
