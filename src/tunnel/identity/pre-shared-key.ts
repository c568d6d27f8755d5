import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

/** The pre-shared key file cannot be used. */
export class PreSharedKeyError extends Error {
  override readonly name = 'PreSharedKeyError'
  readonly code = 'EDGEMESH_PSK'
  readonly file: string

  constructor(file: string, problem: string, options?: ErrorOptions) {
    super(
      `Cannot read the pre-shared key ${file}: ${problem}; copy the file from another node of the mesh, ` +
        'or make a first one with "openssl rand -base64 32"',
      options,
    )
    this.file = file
  }
}

/** What to do about keys that differ, for the logs of both sides. */
export const preSharedKeyRemedy = 'compare "sha256sum" of the pre-shared key file on both nodes'

/** The 32 byte key of the private network from the file that all nodes of the mesh share. */
export async function readPreSharedKey(file: string): Promise<Uint8Array> {
  const content = await readContent(file)
  if (content.length === 0) throw new PreSharedKeyError(file, 'it is empty')
  return preSharedKeyOf(content)
}

/**
 * Turns the file's bytes, untrimmed, into the key: SHA-256, written as hexadecimal, and that text decoded as base64.
 * Odd, but it is what the Go nodes of existing meshes do, and both must meet in one private network.
 */
export function preSharedKeyOf(content: Uint8Array): Uint8Array {
  const hex = createHash('sha256').update(content).digest('hex')
  return new Uint8Array(Buffer.from(hex, 'base64').subarray(0, 32))
}

/** The key in the text form that libp2p reads. */
export function swarmKeyOf(key: Uint8Array): Uint8Array {
  return new TextEncoder().encode(`/key/swarm/psk/1.0.0/\n/base16/\n${Buffer.from(key).toString('hex')}`)
}

async function readContent(file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (error) {
    throw new PreSharedKeyError(file, 'the file cannot be read', { cause: error })
  }
}
