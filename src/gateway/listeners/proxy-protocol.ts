/** The client that a proxy before us names. */
export interface ProxiedClient {
  /** Absent when the proxy itself asks, as for its health checks. */
  readonly client?: { readonly address: string; readonly port: number }
  /** How many bytes the header has. */
  readonly length: number
}

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const longestVersion1 = 107

/** Reads a PROXY protocol header, version 1 or 2, at the start of the bytes. */
export function parseProxyHeader(bytes: Buffer): ProxiedClient | 'incomplete' | 'invalid' {
  const isVersion2 = bytes
    .subarray(0, signature.length)
    .equals(signature.subarray(0, Math.min(bytes.length, signature.length)))
  if (isVersion2) return bytes.length < 16 ? 'incomplete' : parseVersion2(bytes)
  const text = bytes.toString('latin1', 0, longestVersion1)
  if (!text.startsWith('PROXY '.slice(0, text.length))) return 'invalid'
  const end = text.indexOf('\r\n')
  if (end === -1) return text.length < longestVersion1 ? 'incomplete' : 'invalid'
  return parseVersion1(text.slice(0, end))
}

function parseVersion1(line: string): ProxiedClient | 'invalid' {
  const length = line.length + 2
  if (/^PROXY UNKNOWN( |$)/.test(line)) return { length }
  const match = /^PROXY TCP[46] ([0-9a-fA-F:.]{2,45}) [0-9a-fA-F:.]{2,45} (\d{1,5}) \d{1,5}$/.exec(line)
  if (match === null) return 'invalid'
  return { client: { address: match[1] ?? '', port: Number(match[2]) }, length }
}

function parseVersion2(bytes: Buffer): ProxiedClient | 'incomplete' | 'invalid' {
  const [versionAndCommand = 0, family = 0] = bytes.subarray(12, 14)
  const length = 16 + bytes.readUInt16BE(14)
  if (versionAndCommand >> 4 !== 2 || length > 4096) return 'invalid'
  if (bytes.length < length) return 'incomplete'
  const command = versionAndCommand & 15
  if (command === 0) return { length }
  if (command !== 1) return 'invalid'
  if (family === 0x11 && length >= 28) {
    return { client: { address: bytes.subarray(16, 20).join('.'), port: bytes.readUInt16BE(24) }, length }
  }
  if (family === 0x21 && length >= 52) {
    return { client: { address: ipv6TextOf(bytes.subarray(16, 32)), port: bytes.readUInt16BE(48) }, length }
  }
  return { length }
}

function ipv6TextOf(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16))
  return URL.parse(`http://[${groups.join(':')}]/`)?.hostname.slice(1, -1) ?? groups.join(':')
}
