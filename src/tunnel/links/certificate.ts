import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/** A certificate with its private key, both as PEM. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

const ed25519 = sequence(objectId(0x2b, 0x65, 0x70))
const commonName = objectId(0x55, 0x04, 0x03)

/**
 * A throwaway self-signed certificate (RFC 5280, Ed25519). TLS asks a server for one; it proves nothing here, because
 * both ends prove themselves by HELLO, so it names nobody and its dates span all that the format can say.
 */
export function createCertificate(): Certificate {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const name = sequence(tagged(0x31, sequence(commonName, tagged(0x0c, Buffer.from('edgemesh link')))))
  const serial = randomBytes(8)
  // Positive, and without a leading zero.
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40
  const validity = sequence(time('19700101000000Z'), time('99991231235959Z'))
  const version3 = tagged(0xa0, integer(Buffer.of(2)))
  const key = publicKey.export({ format: 'der', type: 'spki' })
  const body = sequence(version3, integer(serial), ed25519, name, validity, name, key)
  const certificate = sequence(body, ed25519, tagged(0x03, Buffer.concat([Buffer.of(0), sign(null, body, privateKey)])))
  return {
    cert: pemOf(certificate),
    key: String(privateKey.export({ format: 'pem', type: 'pkcs8' })),
  }
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return tagged(0x30, Buffer.concat(parts))
}

function integer(value: Buffer): Buffer {
  return tagged(0x02, value)
}

function objectId(...bytes: readonly number[]): Buffer {
  return tagged(0x06, Buffer.from(bytes))
}

function time(text: string): Buffer {
  return tagged(0x18, Buffer.from(text))
}

/** Tag, length and value, as the distinguished encoding rules (X.690) want them. */
function tagged(tag: number, value: Uint8Array): Buffer {
  const { length } = value
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), value])
  const head = length < 0x100 ? Buffer.of(tag, 0x81, length) : Buffer.of(tag, 0x82, length >> 8, length & 0xff)
  return Buffer.concat([head, value])
}

function pemOf(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}
