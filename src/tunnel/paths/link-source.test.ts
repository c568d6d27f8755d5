import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Link } from '../links/link.ts'
import type { PeerLinks } from '../links/peer-links.ts'
import { carrierBeside, type LinkSource } from './link-source.ts'

const link = { path: 'relayed via two' } as Link
const peer = {
  peerId: 'peer',
  open: async (_request: object, _signal: AbortSignal, on: Link) => on,
  openDatagrams: async (_request: object, _signal: AbortSignal, on: Link) => on,
} as unknown as PeerLinks

const sourceOf = (another: LinkSource['another']): LinkSource => ({
  table: { peer: () => peer },
  want: () => {},
  hopeMs: () => 0,
  another,
  lastErrorOf: () => undefined,
})

const request = { protocol: 'tcp', nodeName: 'edge-b', address: '10.1.1.1', port: 80 } as const

test('what meets with silence is opened on the link through another relay, and on that one alone', async () => {
  const asked: (string | undefined)[] = []
  const links = sourceOf(async (_peerId, relay) => {
    asked.push(relay)
    return link
  })
  const carrier = await carrierBeside(links, 'peer', 'one')
  assert.deepEqual([carrier?.peerId, carrier?.path, asked], ['peer', 'relayed via two', ['one']])
  const never = new AbortController().signal
  const opened = [await carrier?.open(request, never), await carrier?.openDatagrams(request, never)]
  assert.deepEqual(opened, [link, link])
})

test('there is no such carrier without links, without another relay, or when the link is not made', async () => {
  assert.equal(await carrierBeside(undefined, 'peer', 'one'), undefined)
  const none = sourceOf(async () => undefined)
  const refused = sourceOf(() => Promise.reject(new Error('the relay refuses')))
  assert.deepEqual(
    [await carrierBeside(none, 'peer', 'one'), await carrierBeside(refused, 'peer', 'one')],
    [undefined, undefined],
  )
})
