/*
 * SOCKS version 5, RFC 1928, as far as a client and this proxy need it:
 *
 *   client                                         proxy
 *     | -- 05 COUNT METHOD...  ------------------->  |
 *     | <- 05 METHOD (FF: none will do) -----------  |
 *     | -- 05 COMMAND 00 TYPE ADDRESS PORT ------->  |
 *     | <- 05 REPLY 00 TYPE ADDRESS PORT ----------  |
 *     | <=============== raw bytes ===============>  |
 */

/** What stands in a reply. */
export const reply = {
  succeeded: 0x00,
  generalFailure: 0x01,
  notAllowed: 0x02,
  networkUnreachable: 0x03,
  hostUnreachable: 0x04,
  refused: 0x05,
  commandNotSupported: 0x07,
  addressTypeNotSupported: 0x08,
} as const

/** A client that needs no authentication says this one. */
export const noAuthentication = 0x00

/** The largest message of a client: a request with a name of 255 bytes. */
export const maxHeadBytes = 262

/** Where a client wants to go. */
export interface SocksRequest {
  readonly destination:
    | { readonly kind: 'name'; readonly name: string }
    | { readonly kind: 'address'; readonly address: string }
  readonly port: number
}

/** A message at the start of the bytes, and how many of them are its own. */
export interface Parsed<Message> {
  readonly message: Message
  readonly length: number
}

/** Bytes that are no message of the protocol, or one that is not served; with the reply to give, when there is one. */
export class SocksError extends Error {
  override readonly name = 'SocksError'
  readonly reply: number | undefined

  constructor(message: string, code?: number) {
    super(`Cannot serve a SOCKS client: ${message}`)
    this.reply = code
  }
}

const version = 5
const connectCommand = 1
const addressTypes = { ipv4: 1, name: 3, ipv6: 4 } as const

/** The methods that a client offers; undefined until all bytes are there. Throws a `SocksError`. */
export function parseGreeting(bytes: Buffer): Parsed<readonly number[]> | undefined {
  requireVersion(bytes)
  const count = bytes[1]
  if (count === undefined || bytes.length < 2 + count) return undefined
  return { message: [...bytes.subarray(2, 2 + count)], length: 2 + count }
}

/** What a client asks for; undefined until all bytes are there. Throws a `SocksError`. */
export function parseRequest(bytes: Buffer): Parsed<SocksRequest> | undefined {
  requireVersion(bytes)
  if (bytes.length < 5) return undefined
  const [, command = 0, , type = 0, nameBytes = 0] = bytes
  if (command !== connectCommand) {
    throw new SocksError(`command ${command} is not CONNECT`, reply.commandNotSupported)
  }
  const end = 4 + addressBytesOf(type, nameBytes)
  if (bytes.length < end + 2) return undefined
  const port = bytes.readUInt16BE(end)
  return { message: { destination: destinationOf(type, bytes.subarray(4, end)), port }, length: end + 2 }
}

/** The bytes of a reply. The bound address is nobody's concern, so it is always 0.0.0.0:0. */
export function renderReply(code: number): Buffer {
  return Buffer.from([version, code, 0, addressTypes.ipv4, 0, 0, 0, 0, 0, 0])
}

/** The bytes that choose a method; none when it is undefined. */
export function renderMethod(method: number | undefined): Buffer {
  return Buffer.from([version, method ?? 0xff])
}

function requireVersion(bytes: Buffer): void {
  const [first] = bytes
  if (first !== undefined && first !== version) throw new SocksError(`version ${first} instead of 5`)
}

function addressBytesOf(type: number, nameBytes: number): number {
  if (type === addressTypes.ipv4) return 4
  if (type === addressTypes.ipv6) return 16
  if (type === addressTypes.name) return 1 + nameBytes
  throw new SocksError(`address type ${type}`, reply.addressTypeNotSupported)
}

function destinationOf(type: number, bytes: Buffer): SocksRequest['destination'] {
  if (type === addressTypes.ipv4) return { kind: 'address', address: bytes.join('.') }
  if (type === addressTypes.name) return { kind: 'name', name: bytes.toString('latin1', 1) }
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16))
  return { kind: 'address', address: groups.join(':') }
}
