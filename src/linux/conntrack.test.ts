import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flowIn } from './conntrack.ts'
import { decodeAttributes, encodeAttribute } from './netlink.ts'

const nested = 0x8000

function tuple(protocol: number, source: string, destination: string): Buffer {
  const [from = '', fromPort] = source.split(':')
  const [to = '', toPort] = destination.split(':')
  const address = (text: string) => Buffer.from(text.split('.').map(Number))
  const port = (text: string | undefined) => Buffer.from([Number(text) >> 8, Number(text) & 255])
  return Buffer.concat([
    encodeAttribute(1 | nested, Buffer.concat([encodeAttribute(1, address(from)), encodeAttribute(2, address(to))])),
    encodeAttribute(
      2 | nested,
      Buffer.concat([
        encodeAttribute(1, Buffer.from([protocol])),
        encodeAttribute(2, port(fromPort)),
        encodeAttribute(3, port(toPort)),
      ]),
    ),
  ])
}

/** IPS_CONFIRMED and IPS_DST_NAT, which all of these have, besides IPS_SEEN_REPLY. */
const status = { unanswered: 0x28, answered: 0x2a }

const entry = (protocol: number, flags: number | undefined) =>
  decodeAttributes(
    Buffer.concat([
      encodeAttribute(1 | nested, tuple(protocol, '10.244.1.9:40000', '10.96.0.11:53')),
      encodeAttribute(2 | nested, tuple(protocol, '10.244.1.2:5300', '10.244.1.9:40000')),
      ...(flags === undefined ? [] : [encodeAttribute(3, Buffer.from([0, 0, 0, flags]))]),
    ]),
  )
const ends = { destination: { address: '10.96.0.11', port: 53 }, answeredBy: { address: '10.244.1.2', port: 5300 } }

test('a translated UDP flow tells what the client asked for and who answers', () => {
  for (const flags of Object.values(status)) assert.deepEqual(flowIn(entry(17, flags)), { protocol: 'udp', ...ends })
})

test('a TCP connection is a flow until it is answered', () => {
  assert.deepEqual(flowIn(entry(6, status.unanswered)), { protocol: 'tcp', ...ends })
  assert.equal(flowIn(entry(6, status.answered)), undefined)
  assert.equal(flowIn(entry(6, undefined)), undefined)
})

test('other protocols and broken entries are no flows', () => {
  assert.equal(flowIn(entry(132, status.unanswered)), undefined)
  assert.equal(flowIn(new Map()), undefined)
  assert.equal(flowIn(decodeAttributes(encodeAttribute(1 | nested, Buffer.from([1, 2, 3])))), undefined)
})
