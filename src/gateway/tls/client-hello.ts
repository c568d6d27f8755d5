/** What a TLS client says before anything is encrypted. */
export interface ClientHello {
  /** The name it asks for, in lower case; empty when it asks for none. */
  readonly serverName: string
}

/** What the first bytes of a connection are. */
export type ClientHelloResult = ClientHello | 'incomplete' | 'not-tls'

/** A longer one is no client that anybody uses. */
export const longestClientHello = 65_536

/** Reads the ClientHello at the start of the bytes, which may be spread over several records (RFC 8446 4 and 5). */
export function parseClientHello(bytes: Buffer): ClientHelloResult {
  const handshake = joinRecords(bytes)
  if (typeof handshake === 'string') return handshake
  if (handshake.length < 4) return 'incomplete'
  if (handshake[0] !== 1) return 'not-tls'
  const length = handshake.readUIntBE(1, 3)
  if (length > longestClientHello) return 'not-tls'
  if (handshake.length < 4 + length) return 'incomplete'
  return readHello(new Reader(handshake.subarray(4, 4 + length)))
}

/** The handshake bytes of the records that are there, up to the first one of another kind. */
function joinRecords(bytes: Buffer): Buffer | 'not-tls' {
  const parts: Buffer[] = []
  let at = 0
  while (at < bytes.length && isHandshakeRecord(bytes, at)) {
    if (at + 5 > bytes.length) break
    const length = bytes.readUInt16BE(at + 3)
    if (length === 0 || length > longestRecord) return 'not-tls'
    parts.push(bytes.subarray(at + 5, Math.min(bytes.length, at + 5 + length)))
    at += 5 + length
  }
  const isOther = parts.length === 0 && bytes.length > 0 && !isHandshakeRecord(bytes, 0)
  return isOther ? 'not-tls' : Buffer.concat(parts)
}

const longestRecord = 18_432

/** Type 22, version 3.x; as far as the bytes are there. */
function isHandshakeRecord(bytes: Buffer, at: number): boolean {
  return bytes[at] === 22 && (at + 1 >= bytes.length || bytes[at + 1] === 3)
}

function readHello(reader: Reader): ClientHelloResult {
  reader.skip(2 + 32)
  reader.skip(reader.uint8())
  reader.skip(reader.uint16())
  reader.skip(reader.uint8())
  if (reader.isBroken) return 'not-tls'
  const extensions = new Reader(reader.bytes(reader.uint16()))
  let serverName = ''
  while (extensions.left >= 4) {
    const type = extensions.uint16()
    const body = extensions.bytes(extensions.uint16())
    if (type === 0) serverName = readServerName(new Reader(body))
  }
  return extensions.isBroken ? 'not-tls' : { serverName }
}

/** RFC 6066 3: a list with one host name. */
function readServerName(reader: Reader): string {
  const list = new Reader(reader.bytes(reader.uint16()))
  const type = list.uint8()
  const name = list.bytes(list.uint16()).toString('latin1').toLowerCase()
  return !list.isBroken && type === 0 && /^[a-z0-9_.-]{1,253}$/.test(name) ? name.replace(/\.$/, '') : ''
}

/** Reads big-endian fields; past the end it gives zeros and remembers that. */
class Reader {
  readonly #bytes: Buffer
  #at = 0
  isBroken = false

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  uint8(): number {
    return this.bytes(1)[0] ?? 0
  }

  uint16(): number {
    const [high = 0, low = 0] = this.bytes(2)
    return high * 256 + low
  }

  bytes(length: number): Buffer {
    if (length > this.left) this.isBroken = true
    const part = this.#bytes.subarray(this.#at, this.#at + length)
    this.#at = Math.min(this.#bytes.length, this.#at + length)
    return part
  }

  skip(length: number): void {
    this.bytes(length)
  }
}
