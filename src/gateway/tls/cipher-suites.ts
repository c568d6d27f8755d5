import { getCiphers } from 'node:tls'

const known: ReadonlySet<string> = new Set(getCiphers())
const defaultTls13 = ['TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_128_GCM_SHA256']

/** What a server's cipherSuites become. */
export interface CipherChoice {
  /** In the words of OpenSSL; undefined means its defaults. */
  readonly ciphers: string | undefined
  readonly unknown: readonly string[]
}

/**
 * Names of OpenSSL or of the IANA as one list for OpenSSL. As in Istio the list is about TLS 1.2 and below, unless it
 * names suites of TLS 1.3. Old versions need the security level that still has their hashes.
 */
export function chooseCiphers(suites: readonly string[], allowsOldVersions: boolean): CipherChoice {
  const named = suites.map((suite) => ({ suite, name: openSslNameOf(suite) }))
  const unknown = named.flatMap(({ suite, name }) => (name === undefined ? [suite] : []))
  const names = named.flatMap(({ name }) => name ?? [])
  const level = allowsOldVersions ? '@SECLEVEL=0' : ''
  if (names.length === 0) return { ciphers: allowsOldVersions ? `DEFAULT${level}` : undefined, unknown }
  const tls13 = names.some((name) => name.startsWith('TLS_')) ? [] : defaultTls13
  return { ciphers: [...tls13, ...names].join(':') + (level === '' ? '' : `:${level}`), unknown }
}

function openSslNameOf(suite: string): string | undefined {
  if (known.has(suite.toLowerCase())) return suite.toUpperCase()
  const converted = suite
    .replace(/^TLS_/, '')
    .replace('_WITH_', '_')
    .replace(/^RSA_/, '')
    .replace(/AES_(128|256)/, 'AES$1')
    .replace(/(AES\d+)_CBC/, '$1')
    .replace('CHACHA20_POLY1305_SHA256', 'CHACHA20_POLY1305')
    .replaceAll('_', '-')
  return known.has(converted.toLowerCase()) ? converted : undefined
}
