import type { NetlinkSocket } from 'netlink'
import { sleep } from '../runtime/index.ts'
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

/**
 * A flow that the kernel tracks: of UDP, or of TCP as long as nobody has answered. Translation is decided for its first packet
 * and holds until it is forgotten, for a SYN that is sent again as for a datagram.
 */
export interface TrackedFlow {
  readonly protocol: 'udp' | 'tcp'
  /** What the client sent to. */
  readonly destination: FlowEnd
  /** Who answers: another one than the destination when it was translated. */
  readonly answeredBy: FlowEnd
}

/** The kernel's memory of flows. */
export interface Conntrack extends Disposable {
  /**
   * Forgets the flows that match, so that their next packet is translated anew; returns how many they were. TCP connections
   * that were answered are never shown.
   */
  forgetFlows(matches: (flow: TrackedFlow) => boolean, signal: AbortSignal): Promise<number>
}

/** Message types: the conntrack subsystem of nfnetlink in the upper byte. */
const messages = { get: (1 << 8) | 1, delete: (1 << 8) | 2 }
const dumpFlags = 0x300
const nested = 0x8000
/** CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS and CTA_ZONE, then what is in a tuple. */
const attributes = { original: 1, reply: 2, status: 3, zone: 18 }
const tuple = { ip: 1, proto: 2 }
const ip = { source: 1, destination: 2 }
const proto = { number: 1, sourcePort: 2, destinationPort: 3 }
const protocols: Readonly<Record<number, TrackedFlow['protocol']>> = { 6: 'tcp', 17: 'udp' }
/** IPS_SEEN_REPLY, in a number whose first byte is the highest. */
const seenReply = 2
/** A family (IPv4), a version and a resource id: the header of every nfnetlink message. */
const header = Buffer.from([2, 0, 0, 0])

/** A connection that is about to be answered shall not lose its translation. */
const answerMs = 100

/** Speaks ctnetlink in the network namespace of this process. */
export async function createConntrack(): Promise<Conntrack> {
  const netlink = await openNetfilterSocket()
  return {
    async forgetFlows(matches, signal) {
      signal.throwIfAborted()
      const found = await entriesOf(netlink, matches)
      const datagrams = found.filter((entry) => flowIn(entry)?.protocol === 'udp')
      for (const entry of datagrams) await forget(netlink, entry, signal)
      if (datagrams.length === found.length) return found.length
      await sleep(answerMs, signal)
      const waiting = new Set(found.map(keyOf))
      const silent = (await entriesOf(netlink, matches)).filter((entry) => waiting.has(keyOf(entry)))
      for (const entry of silent) await forget(netlink, entry, signal)
      return datagrams.length + silent.length
    },
    [Symbol.dispose]: () => netlink[Symbol.dispose](),
  }
}

type Requests = NetlinkRequests<NetlinkSocket>
type Entry = ReadonlyMap<number, Buffer>

async function entriesOf(netlink: Requests, matches: (flow: TrackedFlow) => boolean): Promise<Entry[]> {
  const [entries] = await netlink.ask('list tracked connections', (socket) =>
    socket.request(messages.get, header, { ...requestOptions, flags: dumpFlags }),
  )
  const found: Entry[] = []
  for (const { data } of entries) {
    const entry = decodeAttributes(data.subarray(header.length))
    const flow = flowIn(entry)
    if (flow !== undefined && matches(flow)) found.push(entry)
  }
  return found
}

async function forget(netlink: Requests, entry: Entry, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  try {
    await netlink.ask('forget a tracked connection', (socket) =>
      socket.request(messages.delete, namingOf(entry), requestOptions),
    )
  } catch (error) {
    // It may have ended in between.
    if (!(error instanceof NetlinkError) || error.code !== 'ENOENT') throw error
  }
}

const keyOf = (entry: Entry): string => namingOf(entry).toString('latin1')

/** What tells the kernel which connection is meant. */
function namingOf(entry: Entry): Buffer {
  const original = entry.get(attributes.original) ?? Buffer.alloc(0)
  const zone = entry.get(attributes.zone)
  return Buffer.concat([
    header,
    encodeAttribute(attributes.original | nested, original),
    ...(zone === undefined ? [] : [encodeAttribute(attributes.zone, zone)]),
  ])
}

/** Undefined for other protocols, and for TCP that was answered or of which that is not known. */
export function flowIn(entry: Entry): TrackedFlow | undefined {
  const original = tupleIn(entry.get(attributes.original))
  const reply = tupleIn(entry.get(attributes.reply))
  const protocol = protocols[original?.protocol ?? 0]
  if (original === undefined || reply === undefined || protocol === undefined) return undefined
  const status = entry.get(attributes.status)
  const isUnanswered = status?.length === 4 && (status.readUInt32BE(0) & seenReply) === 0
  if (protocol === 'tcp' && !isUnanswered) return undefined
  return { protocol, destination: original.destination, answeredBy: reply.source }
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
