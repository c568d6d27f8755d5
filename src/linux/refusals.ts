import { NetlinkError } from './errors.ts'
import { decodeAttributes, encodeAttribute, openNetfilterSocket, requestOptions } from './netlink.ts'

/** An address and a port. */
export interface RefusingEnd {
  readonly address: string
  readonly port: number
}

/** Reads sets of our table that packets fill. */
export interface SetReader extends Disposable {
  /** The elements of a set whose keys are an IPv4 address and a port; none where there is no such set. */
  endsIn(set: string, signal: AbortSignal): Promise<readonly RefusingEnd[]>
  /** The elements of a set whose keys are IPv4 addresses; none where there is no such set. */
  addressesIn(set: string, signal: AbortSignal): Promise<ReadonlySet<string>>
}

/** Message type: the nftables subsystem of nfnetlink in the upper byte. */
const getElements = (10 << 8) | 13
const dumpFlags = 0x300
/** NFTA_SET_ELEM_LIST_TABLE, _SET and _ELEMENTS; NFTA_SET_ELEM_KEY; NFTA_DATA_VALUE. */
const attributes = { table: 1, set: 2, elements: 3, key: 1, value: 1 }
/** A family (IPv4), a version and a resource id: the header of every nfnetlink message. */
const header = Buffer.from([2, 0, 0, 0])

/** Speaks nftables' netlink in the network namespace of this process; costs no process of nft. */
export async function createSetReader(table: string): Promise<SetReader> {
  const netlink = await openNetfilterSocket()
  const keysIn = async (set: string, signal: AbortSignal): Promise<readonly Buffer[]> => {
    signal.throwIfAborted()
    const request = Buffer.concat([
      header,
      encodeAttribute(attributes.table, Buffer.from(`${table}\0`)),
      encodeAttribute(attributes.set, Buffer.from(`${set}\0`)),
    ])
    try {
      const [messages] = await netlink.ask(`read nftables set ${set}`, (socket) =>
        socket.request(getElements, request, { ...requestOptions, flags: dumpFlags }),
      )
      return messages.flatMap(({ data }) => keysInMessage(data.subarray(header.length)))
    } catch (error) {
      if (error instanceof NetlinkError && error.code === 'ENOENT') return []
      throw error
    }
  }
  return {
    endsIn: async (set, signal) => (await keysIn(set, signal)).flatMap(endOf),
    addressesIn: async (set, signal) => new Set((await keysIn(set, signal)).flatMap(addressOf)),
    [Symbol.dispose]: () => netlink[Symbol.dispose](),
  }
}

/** The keys of the elements in one message of a dump, which holds a list of them. */
export function keysInMessage(message: Buffer): Buffer[] {
  const list = decodeAttributes(message).get(attributes.elements) ?? Buffer.alloc(0)
  return [...attributesIn(list)].flatMap((element) => {
    const key = decodeAttributes(element).get(attributes.key) ?? Buffer.alloc(0)
    return decodeAttributes(key).get(attributes.value) ?? []
  })
}

/** The address and port that a key is made of, each padded to four bytes; nothing where it is no such key. */
export const endOf = (key: Buffer): RefusingEnd[] =>
  key.length === 8 ? [{ address: key.subarray(0, 4).join('.'), port: key.readUInt16BE(4) }] : []

/** The address that a key is; nothing where it is none. */
export const addressOf = (key: Buffer): string[] => (key.length === 4 ? [key.join('.')] : [])

/** The values of attributes in a row, which may have the same type. */
function* attributesIn(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at)
    if (length < 4 || at + length > bytes.length) return
    yield bytes.subarray(at + 4, at + length)
    at += Math.ceil(length / 4) * 4
  }
}
