import { createHmac, timingSafeEqual } from 'node:crypto'
import { peerIdFromString } from '@libp2p/peer-id'
import * as z from 'zod'
import type { Identity } from '../identity/identity.ts'
import type { KeyRing } from '../identity/key-ring.ts'

/** What a link is for; flows begin on shared links, and move to a bulk link once they are long. */
export const linkKinds = ['shared', 'bulk', 'datagram'] as const

/** One of `linkKinds`. */
export type LinkKind = (typeof linkKinds)[number]

/** The end of a link: its TLS client is the one that dialled. */
export type LinkSide = 'client' | 'server'

/** Versions of the link protocol that an end speaks, both included. */
export interface VersionRange {
  readonly lowest: number
  readonly highest: number
}

/** What this version speaks. Whoever raises `highest` keeps `lowest` at most one below it. */
export const linkVersions: VersionRange = { lowest: 1, highest: 1 }

/** Things that both ends must know before one of them uses them. */
export const linkCapabilities = ['move', 'datagrams', 'resume'] as const

/** What one end says of itself before anything else. */
export interface Hello {
  readonly versions: VersionRange
  readonly capabilities: readonly string[]
  readonly name: string
  readonly peerId: string
  readonly role: 'agent' | 'gateway'
  /** Of the record of the node, which grows with each start. */
  readonly sequence: number
  /** New at each start of a process: flows of another session are not known. */
  readonly session: string
  readonly kind: LinkKind
}

/** What both ends know of the connection and put under their proofs, so that a proof holds for it alone. */
export interface LinkBinding {
  /** From TLS (RFC 9266, RFC 8446 section 7.5). */
  readonly exporter: Buffer
  readonly clientPeerId: string
  readonly serverPeerId: string
}

/** What proves us. */
export interface LinkCredentials {
  readonly identity: Identity
  /** Absent for an open mesh. */
  readonly keyRing: Pick<KeyRing, 'current' | 'previous' | 'all'> | undefined
}

/** The other end is not who it must be, or cannot be talked to. */
export class HelloError extends Error {
  override readonly name = 'HelloError'
  readonly code = 'EDGEMESH_LINK_HELLO'
  /** Only the pre-shared key is wrong. */
  readonly isKeyMismatch: boolean

  constructor(message: string, options?: ErrorOptions & { readonly isKeyMismatch?: boolean }) {
    super(message, options)
    this.isKeyMismatch = options?.isKeyMismatch ?? false
  }
}

/** Longest HELLO that is read. */
export const maxHelloBytes = 4096

const proofDomain = Buffer.from('edgemesh-link-v1\0')

const envelopeSchema = z.object({
  body: z.string().max(maxHelloBytes),
  signature: z.base64url().max(128),
  mac: z.base64url().max(64),
  /** During a rotation, by the key before: the other end may have that alone. */
  previousMac: z.base64url().max(64).optional(),
})

// Not strict: later versions may say more.
const helloSchema = z.object({
  versions: z.object({ lowest: z.int().min(1), highest: z.int().min(1) }),
  capabilities: z.array(z.string().max(32)).max(32),
  name: z.string().min(1).max(253),
  peerId: z.string().min(1).max(128),
  role: z.enum(['agent', 'gateway']),
  sequence: z.int().min(0),
  session: z.string().regex(/^[0-9a-f]{16}$/),
  kind: z.enum(linkKinds),
})

/** Our HELLO with both proofs, as the payload of a frame. */
export async function encodeHello(
  hello: Hello,
  side: LinkSide,
  binding: LinkBinding,
  { identity, keyRing }: LinkCredentials,
): Promise<Buffer> {
  const body = JSON.stringify(hello)
  const proven = provenBytes(body, side, binding)
  const signature = Buffer.from(await identity.privateKey.sign(proven)).toString('base64url')
  const mac = macOf(proven, keyRing?.current).toString('base64url')
  const previous = keyRing?.previous
  const previousMac = previous === undefined ? undefined : macOf(proven, previous).toString('base64url')
  return Buffer.from(JSON.stringify({ body, signature, mac, previousMac }))
}

/** Reads a HELLO before anything in it is proven: a server learns from it who claims to be there. */
export function parseHello(payload: Buffer): Hello {
  return open(payload).hello
}

/** Checks the proofs of the other end's HELLO; throws a `HelloError` that says which does not hold. */
export async function verifyHello(
  payload: Buffer,
  side: LinkSide,
  binding: LinkBinding,
  { keyRing }: Pick<LinkCredentials, 'keyRing'>,
): Promise<Hello> {
  const { hello, body, signature, macs } = open(payload)
  const claimed = side === 'client' ? binding.clientPeerId : binding.serverPeerId
  const proven = provenBytes(body, side, binding)
  const keys = keyRing?.all ?? [undefined]
  const isMember = keys.some((key) => macs.some((mac) => isEqual(mac, macOf(proven, key))))
  if (!isMember) {
    throw new HelloError('the pre-shared keys of the two nodes differ', { isKeyMismatch: true })
  }
  if (hello.peerId !== claimed) throw new HelloError(`expected ${claimed}, but ${hello.peerId} answered`)
  if (!(await isSigned(hello.peerId, proven, signature))) {
    throw new HelloError(`${hello.name} does not hold the key of ${hello.peerId}`)
  }
  return hello
}

/** The highest version that both speak; throws a `HelloError` when there is none. */
export function agreedVersion(ours: VersionRange, theirs: VersionRange): number {
  const version = Math.min(ours.highest, theirs.highest)
  if (version >= Math.max(ours.lowest, theirs.lowest)) return version
  throw new HelloError(
    `no version of the link protocol in common: here ${rangeText(ours)}, there ${rangeText(theirs)}; upgrade the older node`,
  )
}

function open(payload: Buffer) {
  try {
    const { body, signature, mac, previousMac } = envelopeSchema.parse(JSON.parse(payload.toString('utf8')))
    const hello: Hello = helloSchema.parse(JSON.parse(body))
    const macs = [mac, ...(previousMac === undefined ? [] : [previousMac])].map((text) =>
      Buffer.from(text, 'base64url'),
    )
    return { hello, body, signature: Buffer.from(signature, 'base64url'), macs }
  } catch (error) {
    throw new HelloError('the HELLO cannot be read', { cause: error })
  }
}

function provenBytes(body: string, side: LinkSide, { exporter, clientPeerId, serverPeerId }: LinkBinding): Buffer {
  const fields = [clientPeerId, serverPeerId, side, body].map((text) =>
    Buffer.from(`${Buffer.byteLength(text)}:${text}`),
  )
  return Buffer.concat([proofDomain, exporter, ...fields])
}

/** Empty in an open mesh, which differs from the proof of any key. */
function macOf(proven: Buffer, preSharedKey: Uint8Array | undefined): Buffer {
  return preSharedKey === undefined ? Buffer.alloc(0) : createHmac('sha256', preSharedKey).update(proven).digest()
}

function isEqual(left: Buffer, right: Buffer): boolean {
  return left.length === right.length && timingSafeEqual(left, right)
}

async function isSigned(peerId: string, proven: Buffer, signature: Buffer): Promise<boolean> {
  try {
    const { publicKey } = peerIdFromString(peerId)
    return publicKey !== undefined && (await publicKey.verify(proven, signature))
  } catch {
    return false
  }
}

function rangeText({ lowest, highest }: VersionRange): string {
  return lowest === highest ? String(highest) : `${lowest} to ${highest}`
}
