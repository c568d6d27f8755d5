import assert from 'node:assert/strict'
import { test } from 'node:test'
import { udpFlowIn } from './conntrack.ts'
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

const entry = (protocol: number) =>
  decodeAttributes(
    Buffer.concat([
      encodeAttribute(1 | nested, tuple(protocol, '10.244.1.9:40000', '10.96.0.11:53')),
      encodeAttribute(2 | nested, tuple(protocol, '10.244.1.2:5300', '10.244.1.9:40000')),
    ]),
  )

test('a translated UDP flow tells what the client asked for and who answers', () => {
  assert.deepEqual(udpFlowIn(entry(17)), {
    destination: { address: '10.96.0.11', port: 53 },
    answeredBy: { address: '10.244.1.2', port: 5300 },
  })
})

test('other protocols and broken entries are no UDP flows', () => {
  assert.equal(udpFlowIn(entry(6)), undefined)
  assert.equal(udpFlowIn(new Map()), undefined)
  assert.equal(udpFlowIn(decodeAttributes(encodeAttribute(1 | nested, Buffer.from([1, 2, 3])))), undefined)
})
