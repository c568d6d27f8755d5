import type { NetlinkSocket } from 'netlink'
import { NetlinkError } from './errors.ts'
import {
  decodeAttributes,
  encodeAttribute,
  type NetlinkRequests,
  openNetfilterSocket,
  requestOptions,
} from './netlink.ts'

/** Where a datagram goes, as the kernel's connection tracking sees it. */
export interface FlowEnd {
  readonly address: string
  readonly port: number
}

/** A UDP flow that the kernel tracks. Translation is decided for its first packet and holds until it is forgotten. */
export interface UdpFlow {
  /** What the client sent to. */
  readonly destination: FlowEnd
  /** Who answers: another one than the destination when it was translated. */
  readonly answeredBy: FlowEnd
}

/** The kernel's memory of UDP flows. */
export interface Conntrack extends Disposable {
  /** Forgets the flows that match, so that their next packet is translated anew; returns how many they were. */
  forgetUdpFlows(matches: (flow: UdpFlow) => boolean, signal: AbortSignal): Promise<number>
}

/** Message types: the conntrack subsystem of nfnetlink in the upper byte. */
const messages = { get: (1 << 8) | 1, delete: (1 << 8) | 2 }
const dumpFlags = 0x300
const nested = 0x8000
/** CTA_TUPLE_ORIG, CTA_TUPLE_REPLY and CTA_ZONE, then what is in a tuple. */
const attributes = { original: 1, reply: 2, zone: 18 }
const tuple = { ip: 1, proto: 2 }
const ip = { source: 1, destination: 2 }
const proto = { number: 1, sourcePort: 2, destinationPort: 3 }
const udp = 17
/** A family (IPv4), a version and a resource id: the header of every nfnetlink message. */
const header = Buffer.from([2, 0, 0, 0])

/** Speaks ctnetlink in the network namespace of this process. */
export async function createConntrack(): Promise<Conntrack> {
  const netlink = await openNetfilterSocket()
  return {
    async forgetUdpFlows(matches, signal) {
      signal.throwIfAborted()
      const [entries] = await netlink.ask('list tracked connections', (socket) =>
        socket.request(messages.get, header, { ...requestOptions, flags: dumpFlags }),
      )
      let count = 0
      for (const { data } of entries) {
        const entry = decodeAttributes(data.subarray(header.length))
        const flow = udpFlowIn(entry)
        if (flow === undefined || !matches(flow)) continue
        signal.throwIfAborted()
        await forget(netlink, entry)
        count += 1
      }
      return count
    },
    [Symbol.dispose]: () => netlink[Symbol.dispose](),
  }
}

async function forget(netlink: NetlinkRequests<NetlinkSocket>, entry: ReadonlyMap<number, Buffer>): Promise<void> {
  const original = entry.get(attributes.original) ?? Buffer.alloc(0)
  const zone = entry.get(attributes.zone)
  const data = Buffer.concat([
    header,
    encodeAttribute(attributes.original | nested, original),
    ...(zone === undefined ? [] : [encodeAttribute(attributes.zone, zone)]),
  ])
  try {
    await netlink.ask('forget a tracked connection', (socket) => socket.request(messages.delete, data, requestOptions))
  } catch (error) {
    // It may have ended in between.
    if (!(error instanceof NetlinkError) || error.code !== 'ENOENT') throw error
  }
}

/** Undefined for other protocols. */
export function udpFlowIn(entry: ReadonlyMap<number, Buffer>): UdpFlow | undefined {
  const original = tupleIn(entry.get(attributes.original))
  const reply = tupleIn(entry.get(attributes.reply))
  if (original?.protocol !== udp || reply === undefined) return undefined
  return { destination: original.destination, answeredBy: reply.source }
}

function tupleIn(bytes: Buffer = Buffer.alloc(0)) {
  const parts = decodeAttributes(bytes)
  const addresses = decodeAttributes(parts.get(tuple.ip) ?? Buffer.alloc(0))
  const ports = decodeAttributes(parts.get(tuple.proto) ?? Buffer.alloc(0))
  const endOf = (address: number, port: number): FlowEnd | undefined => {
    const text = addresses.get(address)?.join('.')
    const number = ports.get(port)
    return text === undefined || number === undefined ? undefined : { address: text, port: number.readUInt16BE(0) }
  }
  const source = endOf(ip.source, proto.sourcePort)
  const destination = endOf(ip.destination, proto.destinationPort)
  if (source === undefined || destination === undefined) return undefined
  return { protocol: ports.get(proto.number)?.[0], source, destination }
}
