import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { readFileIfExists, writeFileAtomically } from '../../runtime/index.ts'

/** Who this node is to its peers. */
export interface Identity {
  readonly peerId: string
  readonly privateKey: PrivateKey
}

/** The key file cannot be used; it is never replaced by itself, because peers have pinned the old identity. */
export class IdentityError extends Error {
  override readonly name = 'IdentityError'
  readonly code = 'EDGEMESH_IDENTITY'
  readonly file: string

  constructor(file: string, problem: string, options?: ErrorOptions) {
    super(
      `Cannot read the identity ${file}: ${problem}; restore it from a backup, or delete it for a new identity ` +
        'and run "edgemesh unpin" with the name of this node on its peers and servers',
      options,
    )
    this.file = file
  }
}

/** The node's Ed25519 key from `stateDir/identity.key`, made at the first start; the file holds one line of base64. */
export async function loadIdentity(stateDir: string): Promise<Identity> {
  const file = join(stateDir, 'identity.key')
  const text = await readKeyFile(file)
  const privateKey = text === undefined ? await createKeyFile(file) : parseKey(file, text)
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey }
}

/** The identity before a rotation, from `stateDir/identity.key.previous`; undefined without that file. */
export async function loadFormerIdentity(stateDir: string): Promise<Identity | undefined> {
  const file = join(stateDir, 'identity.key.previous')
  const text = await readKeyFile(file)
  if (text === undefined) return undefined
  const privateKey = parseKey(file, text)
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey }
}

/** The peer ID of the key in `stateDir/identity.key`; undefined before the first start. */
export async function readPeerId(stateDir: string): Promise<string | undefined> {
  const file = join(stateDir, 'identity.key')
  const text = await readKeyFile(file)
  return text === undefined ? undefined : peerIdFromPrivateKey(parseKey(file, text)).toString()
}

async function readKeyFile(file: string): Promise<string | undefined> {
  try {
    return await readFileIfExists(file)
  } catch (error) {
    throw new IdentityError(file, 'the file cannot be read', { cause: error })
  }
}

async function createKeyFile(file: string): Promise<PrivateKey> {
  const privateKey = await generateKeyPair('Ed25519')
  await writeFileAtomically(file, `${Buffer.from(privateKeyToProtobuf(privateKey)).toString('base64')}\n`)
  return privateKey
}

function parseKey(file: string, text: string): PrivateKey {
  const base64 = text.trim()
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) throw new IdentityError(file, 'it does not hold a line of base64')
  const privateKey = decodeKey(file, Buffer.from(base64, 'base64'))
  if (privateKey.type !== 'Ed25519') throw new IdentityError(file, `it holds a key of type ${privateKey.type}`)
  return privateKey
}

function decodeKey(file: string, bytes: Uint8Array): PrivateKey {
  try {
    return privateKeyFromProtobuf(bytes)
  } catch (error) {
    throw new IdentityError(file, 'it does not hold a libp2p private key', { cause: error })
  }
}
