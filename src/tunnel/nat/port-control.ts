/*
 *  NAT-PMP (RFC 6886), TCP mapping              PCP (RFC 6887), MAP
 *  0       version 0                            0       version 2
 *  1       2, in answers 130                    1       1, in answers 129
 *  2..3    0, in answers the result             2..3    0, in answers 0 and the result
 *  in answers 4..7 the router's time            4..7    lifetime in seconds
 *  4..5    internal port (8..9)                 8..23   our address; in answers 8..11 the router's time
 *  6..7    external port (10..11)               24..35  nonce
 *  8..11   lifetime in seconds (12..15)         36      6 for TCP
 *                                               40..41  internal port
 *                                               42..43  external port
 *                                               44..59  external address
 */

/** Where routers take these requests, over UDP. */
export const portControlPort = 5351

/** What is asked of a router; a lifetime of 0 takes the mapping back. */
export interface MappingRequest {
  readonly internalPort: number
  /** A wish. */
  readonly externalPort: number
  readonly lifetimeSeconds: number
}

/** What the router gives. */
export interface MappingGrant {
  readonly externalPort: number
  readonly lifetimeSeconds: number
}

/** The router does not do it, with the number that it gives as the reason. */
export class MappingRefusedError extends Error {
  override readonly name = 'MappingRefusedError'
  readonly code = 'EDGEMESH_MAPPING_REFUSED'
  /** It does not know the protocol; another one may do. */
  readonly isUnknownVersion: boolean
  /** Of RFC 6886 and RFC 6887, or of UPnP, whose numbers begin at 400. */
  readonly result: number

  constructor(protocol: string, result: number) {
    super(`the router refuses by ${protocol}: ${resultTexts[result] ?? `result ${result}`}`)
    this.isUnknownVersion = result === 1
    this.result = result
  }
}

const resultTexts: Readonly<Record<number, string>> = {
  1: 'it does not know this version',
  2: 'not authorised, the function is switched off',
  3: 'it has no network itself',
  4: 'it has no room for more',
  5: 'it does not know the request',
  401: 'it does not know the request',
  606: 'not authorised, the function is switched off',
  718: 'the port is in use',
  728: 'it has no room for more',
}

const pcpBytes = 60
const natPmpAnswerBytes = 16
const tcpProtocol = 6
const answerBit = 128

/** Nonce of PCP: the router lets only who knows it change the mapping. */
export const nonceBytes = 12

/** The request as NAT-PMP. */
export function encodeNatPmp({ internalPort, externalPort, lifetimeSeconds }: MappingRequest): Buffer {
  const request = Buffer.alloc(12)
  request[1] = 2
  request.writeUInt16BE(internalPort, 4)
  request.writeUInt16BE(lifetimeSeconds === 0 ? 0 : externalPort, 6)
  request.writeUInt32BE(lifetimeSeconds, 8)
  return request
}

/** Undefined when it is no answer to that; throws a `MappingRefusedError`. */
export function decodeNatPmp(answer: Buffer, { internalPort }: MappingRequest): MappingGrant | undefined {
  if (answer.length < 4 || answer[0] !== 0 || answer[1] !== answerBit + 2) return undefined
  const result = answer.readUInt16BE(2)
  if (result !== 0) throw new MappingRefusedError('NAT-PMP', result)
  if (answer.length < natPmpAnswerBytes || answer.readUInt16BE(8) !== internalPort) return undefined
  return { externalPort: answer.readUInt16BE(10), lifetimeSeconds: answer.readUInt32BE(12) }
}

/** The request as PCP, from this IPv4 address of ours. */
export function encodePcp(request: MappingRequest, nonce: Buffer, ownAddress: string): Buffer {
  const message = Buffer.alloc(pcpBytes)
  message[0] = 2
  message[1] = 1
  message.writeUInt32BE(request.lifetimeSeconds, 4)
  mappedAddress(ownAddress).copy(message, 8)
  nonce.copy(message, 24)
  message[36] = tcpProtocol
  message.writeUInt16BE(request.internalPort, 40)
  message.writeUInt16BE(request.lifetimeSeconds === 0 ? 0 : request.externalPort, 42)
  mappedAddress('0.0.0.0').copy(message, 44)
  return message
}

/**
 * Undefined when it is no answer to that; throws a `MappingRefusedError`, also for the answer of a router that knows
 * NAT-PMP alone.
 */
export function decodePcp(answer: Buffer, request: MappingRequest, nonce: Buffer): MappingGrant | undefined {
  if (answer.length < 4 || answer.readUInt8(1) < answerBit) return undefined
  const version = answer.readUInt8(0)
  if (version === 0) throw new MappingRefusedError('PCP', 1)
  if (version !== 2) return undefined
  const result = answer.readUInt8(3)
  if (result !== 0) throw new MappingRefusedError('PCP', result)
  if (answer.length < pcpBytes || answer.readUInt8(1) !== answerBit + 1) return undefined
  const isOurs = answer.subarray(24, 36).equals(nonce) && answer.readUInt16BE(40) === request.internalPort
  return isOurs ? { externalPort: answer.readUInt16BE(42), lifetimeSeconds: answer.readUInt32BE(4) } : undefined
}

/** An IPv4 address as the IPv6 address ::ffff:a.b.c.d. */
function mappedAddress(address: string): Buffer {
  return Buffer.from([...Array<number>(10).fill(0), 255, 255, ...address.split('.').map(Number)])
}
