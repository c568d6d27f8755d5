import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import * as z from 'zod'

/** Roles of the nodes that have records. */
export type NodeRole = 'agent' | 'gateway'

/** What a node says of itself: its name, its identity and where it listens. */
export interface NameRecord {
  /** The Kubernetes node name. */
  readonly name: string
  readonly peerId: string
  readonly role: NodeRole
  /** Grows with each record of a node, also over restarts. */
  readonly sequence: number
  /** Multiaddresses that may reach the node directly. */
  readonly addresses: readonly string[]
  /** After a rotation: the identity before, and its signature (base64url) that the name passes on. */
  readonly formerly?: { readonly peerId: string; readonly signature: string } | undefined
  /** When it was signed, in milliseconds, by the signer's clock, which may be wrong. */
  readonly time: number
}

/** A record and the text that travels: `v1.PAYLOAD.SIGNATURE`, both parts base64url. */
export interface SignedRecord {
  readonly record: NameRecord
  readonly encoded: string
}

/** A record that does not hold: damaged, forged, or out of bounds. */
export class NameRecordError extends Error {
  override readonly name = 'NameRecordError'
  readonly code = 'EDGEMESH_RECORD'
}

/** Longest text of a record that is looked at. */
export const maxEncodedRecordLength = 8192

// Separates these signatures from all others made with the same key.
const signatureDomain = new TextEncoder().encode('edgemesh-record-v1\0')

const rotationDomain = new TextEncoder().encode('edgemesh-rotation-v1\0')

const recordSchema = z.strictObject({
  name: z
    .string()
    .max(253)
    .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/),
  peerId: z.string().min(1).max(128),
  role: z.enum(['agent', 'gateway']),
  sequence: z.int().min(1),
  addresses: z.array(z.string().startsWith('/').max(256)).max(32),
  formerly: z.strictObject({ peerId: z.string().min(1).max(128), signature: z.base64url().max(128) }).optional(),
  time: z.int().min(0),
})

/** Signs a record; throws when its name, or anything else in it, is not allowed in one. */
export async function signRecord(record: NameRecord, privateKey: PrivateKey): Promise<SignedRecord> {
  const payload = new TextEncoder().encode(JSON.stringify(parseRecord(record)))
  const signature = await privateKey.sign(signedBytesOf(payload))
  return { record, encoded: `v1.${base64url(payload)}.${base64url(signature)}` }
}

/** Lets the holder of a key pass its name on to a new identity: what a record of that says it was formerly. */
export async function passOn(
  name: string,
  peerId: string,
  former: { readonly peerId: string; readonly privateKey: PrivateKey },
): Promise<NonNullable<NameRecord['formerly']>> {
  const signature = await former.privateKey.sign(rotationBytes(name, peerId))
  return { peerId: former.peerId, signature: base64url(signature) }
}

/** Reads a record and checks that the identity it names has signed it; throws a `NameRecordError` otherwise. */
export async function openRecord(encoded: string): Promise<SignedRecord> {
  if (encoded.length > maxEncodedRecordLength) throw new NameRecordError('Cannot read a name record: it is too long')
  const [, payloadText, signatureText] = /^v1\.([\w-]+)\.([\w-]+)$/.exec(encoded) ?? []
  if (payloadText === undefined || signatureText === undefined) {
    throw new NameRecordError('Cannot read a name record: unknown format')
  }
  const payload = Buffer.from(payloadText, 'base64url')
  const record = parsePayload(payload)
  const { name, peerId, formerly } = record
  if (formerly !== undefined) {
    const signature = Buffer.from(formerly.signature, 'base64url')
    if (!(await isSignedBy(formerly.peerId, rotationBytes(name, peerId), signature))) {
      throw new NameRecordError(
        `Cannot accept the name record of ${name}: ${formerly.peerId} has not passed the name on`,
      )
    }
  }
  if (!(await isSignedBy(peerId, signedBytesOf(payload), Buffer.from(signatureText, 'base64url')))) {
    throw new NameRecordError(`Cannot accept the name record of ${name}: it is not signed by ${peerId}`)
  }
  return { record, encoded }
}

function parsePayload(payload: Buffer): NameRecord {
  try {
    return parseRecord(JSON.parse(payload.toString('utf8')))
  } catch (error) {
    throw new NameRecordError('Cannot read a name record', { cause: error })
  }
}

function parseRecord(input: unknown): NameRecord {
  const result = recordSchema.safeParse(input)
  if (!result.success) throw new NameRecordError(`Cannot use a name record: ${z.prettifyError(result.error)}`)
  return result.data
}

async function isSignedBy(peerId: string, bytes: Uint8Array, signature: Uint8Array): Promise<boolean> {
  try {
    const { publicKey } = peerIdFromString(peerId)
    return publicKey !== undefined && (await publicKey.verify(bytes, signature))
  } catch (error) {
    throw new NameRecordError('Cannot check the signature of a name record', { cause: error })
  }
}

function rotationBytes(name: string, peerId: string): Uint8Array {
  return Buffer.concat([rotationDomain, Buffer.from(JSON.stringify([name, peerId]))])
}

function signedBytesOf(payload: Uint8Array): Uint8Array {
  return Buffer.concat([signatureDomain, payload])
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}
