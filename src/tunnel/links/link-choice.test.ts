import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bestLink, type ChosenDatagramLink, type ChosenLink, datagramLinkOf, usableLinks } from './link-choice.ts'

const linkOf = (kind: ChosenLink['kind'], more: Partial<ChosenDatagramLink> = {}): ChosenDatagramLink => ({
  kind,
  isOpen: true,
  isDirect: false,
  path: 'relayed via one',
  flows: 0,
  lastHeardMs: 0,
  probedSinceMs: undefined,
  ...more,
})
const never = () => false

test('flows begin on a direct link, however many there are on it, and on the one with the fewest of its like', () => {
  const relayed = linkOf('shared')
  const busy = linkOf('shared', { isDirect: true, flows: 9 })
  const calm = linkOf('shared', { isDirect: true, flows: 2 })
  const all = [relayed, busy, calm, linkOf('bulk', { isDirect: true })]
  assert.equal(bestLink(all, { isRetiring: never }), calm)
  assert.deepEqual(usableLinks(all, 'shared', never), [calm, busy, relayed])
})

test('links that end, or that one side wants to close, get no new flows', () => {
  const closed = linkOf('shared', { isDirect: true, isOpen: false })
  const retiring = linkOf('shared', { isDirect: true })
  const relayed = linkOf('shared', { flows: 3 })
  const isRetiring = (link: ChosenLink) => link === retiring
  assert.equal(bestLink([closed, retiring, relayed], { isRetiring }), relayed)
  assert.deepEqual(usableLinks([closed, retiring, relayed], 'shared', isRetiring), [relayed])
  assert.equal(bestLink([closed, retiring], { isRetiring }), undefined)
})

test('a link in doubt is the last choice, before none at all', () => {
  const direct = linkOf('shared', { isDirect: true })
  const relayed = linkOf('shared', { flows: 3 })
  const other = linkOf('shared', { flows: 1 })
  const isDoubted = (link: ChosenLink) => link === direct || link === other
  const preference = { isRetiring: never, isDoubted }
  assert.equal(bestLink([direct, other, relayed], preference), relayed)
  assert.equal(bestLink([other, direct], preference), direct)
  assert.equal(bestLink([], preference), undefined)
})

test('flows begin on the link through the nearest relay, and on the one with the fewest where relays are as near', () => {
  const busy = linkOf('shared', { path: 'relayed via near', flows: 9 })
  const calm = linkOf('shared', { path: 'relayed via far' })
  const choose = (nearMs: number, farMs: number) => {
    const distanceOf = ({ path }: ChosenLink) => (path === busy.path ? nearMs : farMs)
    const chosen = [
      [busy, calm],
      [calm, busy],
    ].map((links) => bestLink(links, { isRetiring: never, distanceOf }))
    assert.equal(chosen[0], chosen[1])
    return chosen[0]
  }
  assert.equal(choose(10, 50), busy)
  assert.equal(choose(10, 13), calm)
  assert.equal(choose(100, 110), calm)
})

test('datagrams take their own link, and none rather than a relayed one while others go directly', () => {
  const relayed = linkOf('datagram')
  const direct = linkOf('datagram', { isDirect: true })
  const shared = linkOf('shared', { isDirect: true })
  assert.equal(datagramLinkOf([linkOf('shared'), relayed], 0), relayed)
  assert.equal(datagramLinkOf([relayed, shared], 0), undefined)
  assert.equal(datagramLinkOf([relayed, shared, direct], 0), direct)
  assert.equal(datagramLinkOf([linkOf('datagram', { isOpen: false })], 0), undefined)
})

test('datagrams take the newest link, since those before may be dead, and none that says nothing when it is asked', () => {
  const old = linkOf('datagram', { isDirect: true, lastHeardMs: 1_000 })
  const asked = linkOf('datagram', { isDirect: true, lastHeardMs: 1_000, probedSinceMs: 5_000 })
  assert.equal(datagramLinkOf([old, asked], 7_000), asked)
  assert.equal(datagramLinkOf([old, asked], 7_001), old)
  assert.equal(datagramLinkOf([{ ...asked, lastHeardMs: 6_000 }], 8_000)?.lastHeardMs, 6_000)
  assert.equal(datagramLinkOf([asked], 7_001), undefined)
})
