import type { Secret } from '../../model/index.ts'

/** Certificate, key and the CAs of client certificates, as PEM. */
export interface ServerCertificate {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca: Buffer | undefined
}

/** Secrets that cannot be used; the message names the Secret and never its content. */
export class SecretError extends Error {
  override readonly name = 'SecretError'
}

/**
 * What a server takes from its Secret, in the keys of kubernetes.io/tls or those that Istio's tools write. A CA may be
 * in the same Secret or in the one whose name ends in -cacert. Throws `SecretError`.
 */
export function serverCertificateOf(
  key: string,
  secret: Secret | undefined,
  caSecret: Secret | undefined,
): ServerCertificate {
  if (secret === undefined) throw new SecretError(`there is no Secret ${key}`)
  const cert = dataOf(secret, 'tls.crt', 'cert')
  const privateKey = dataOf(secret, 'tls.key', 'key')
  if (cert === undefined) throw new SecretError(`Secret ${key} has no tls.crt`)
  if (privateKey === undefined) throw new SecretError(`Secret ${key} has no tls.key`)
  const ca = dataOf(secret, 'ca.crt', 'cacert') ?? (caSecret && dataOf(caSecret, 'ca.crt', 'cacert', 'tls.crt'))
  return { cert, key: privateKey, ca }
}

function dataOf({ data }: Secret, ...names: readonly string[]): Buffer | undefined {
  const text = names.map((name) => data[name]).find((value) => value !== undefined && value !== '')
  return text === undefined ? undefined : Buffer.from(text, 'base64')
}
