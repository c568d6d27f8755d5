import { createHash } from 'node:crypto'
import { publicKeyFromProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { ByteStream } from '../../net/index.ts'
import { bytesField, delimited, fieldsOf, numberField, readDelimited, writeDelimited } from './protobuf.ts'

/*
 * The messages of Kademlia as libp2p has them, as far as a rendezvous needs them (libp2p specs, kad-dht).
 *
 *     Message  1 type   2 key   8 closer peers   9 providers
 *     Peer     1 identity   2 addresses
 */

/** Two tables of the Go system's agents: public addresses in one, private ones in the other. A relay may be in either. */
export const dhtProtocols = ['/ipfs/kad/1.0.0', '/ipfs/lan/kad/1.0.0'] as const

/** What a message asks for; the numbers of the protocol. */
export const dhtTypes = { getValue: 1, addProvider: 2, getProviders: 3, findNode: 4, ping: 5 } as const

/** A node and how it is reached, as multiaddresses. */
export interface DhtPeer {
  readonly peerId: string
  readonly addresses: readonly string[]
}

/** A question or its answer. */
export interface DhtMessage {
  readonly type: number
  readonly key: Buffer
  readonly closer: readonly DhtPeer[]
  readonly providers: readonly DhtPeer[]
}

/** More providers than a mesh of thousands of nodes has, with their addresses. */
const limitBytes = 2 * 1024 * 1024 - 1

/** More are not read: each node has a few. */
const maxAddresses = 16
const maxPeers = 8192

/** The identity of a key that is as short as an Ed25519 one: the key itself, with these bytes before it. */
const identityHead = Buffer.of(0x00, 0x24)
const identityBytes = 38

/** The key under which the nodes of one rendezvous are provided: its name as a SHA-256 multihash. */
export function rendezvousKeyOf(rendezvous: string): Buffer {
  return Buffer.concat([Buffer.of(0x12, 0x20), createHash('sha256').update(rendezvous, 'utf8').digest()])
}

/** The message with its length before it. */
export function encodeDhtMessage({ type, key, closer = [], providers = [] }: Partial<DhtMessage>): Buffer {
  return delimited([
    numberField(1, type ?? 0),
    ...(key === undefined ? [] : [bytesField(2, key)]),
    ...closer.map((peer) => bytesField(8, encodePeer(peer))),
    ...providers.map((peer) => bytesField(9, encodePeer(peer))),
  ])
}

/** Reads the body of a message. Peers and addresses of kinds that no agent has are left out; throws a `FrameError`. */
export function decodeDhtMessage(bytes: Uint8Array): DhtMessage {
  const message = { type: 0, key: Buffer.alloc(0), closer: [] as DhtPeer[], providers: [] as DhtPeer[] }
  for (const [field, value] of fieldsOf(bytes)) {
    if (typeof value === 'number') message.type = field === 1 ? value : message.type
    else if (field === 2) message.key = Buffer.from(value)
    else if (field === 8) addPeer(message.closer, value)
    else if (field === 9) addPeer(message.providers, value)
  }
  return message
}

/** Writes a message. */
export function writeDhtMessage(stream: ByteStream, message: Partial<DhtMessage>): void {
  writeDelimited(stream, encodeDhtMessage(message))
}

/** Reads one message of at most `maxBytes`; undefined when the far end ended before it. */
export async function readDhtMessage(
  stream: ByteStream,
  signal: AbortSignal,
  maxBytes = limitBytes,
): Promise<DhtMessage | undefined> {
  const body = await readDelimited(stream, maxBytes, signal)
  return body && decodeDhtMessage(body)
}

/** Who serves a rendezvous tells of the same nodes again and again. */
const encoded = new WeakMap<DhtPeer, Buffer>()

function encodePeer(peer: DhtPeer): Buffer {
  const known = encoded.get(peer)
  if (known !== undefined) return known
  const { bytes } = peerIdFromString(peer.peerId).toMultihash()
  const addresses = peer.addresses.map((address) => bytesField(2, multiaddr(address).bytes))
  const fields = Buffer.concat([bytesField(1, bytes), ...addresses])
  encoded.set(peer, fields)
  return fields
}

function addPeer(peers: DhtPeer[], bytes: Uint8Array): void {
  const peer = decodePeer(bytes)
  if (peer !== undefined && peers.length < maxPeers) peers.push(peer)
}

function decodePeer(bytes: Uint8Array): DhtPeer | undefined {
  let peerId: string | undefined
  const addresses: string[] = []
  for (const [field, value] of fieldsOf(bytes)) {
    if (typeof value === 'number') continue
    if (field === 1) peerId = textOfPeerId(value)
    if (field === 2 && addresses.length < maxAddresses) addresses.push(...textOfAddress(value))
  }
  return peerId === undefined ? undefined : { peerId, addresses }
}

/** The text of an identity in its binary form; undefined unless it is one that agents have. */
export function textOfPeerId(bytes: Buffer): string | undefined {
  if (bytes.length !== identityBytes || !bytes.subarray(0, 2).equals(identityHead)) return undefined
  try {
    return peerIdFromPublicKey(publicKeyFromProtobuf(bytes.subarray(2))).toString()
  } catch {
    return undefined
  }
}

/** Empty when it is of a kind that is not known here. */
function textOfAddress(bytes: Buffer): string[] {
  try {
    return [multiaddr(bytes).toString()]
  } catch {
    return []
  }
}
