import { randomBytes } from 'node:crypto'
import { exchangeDatagram, type SocketAddress } from '../../net/index.ts'
import {
  decodeNatPmp,
  decodePcp,
  encodeNatPmp,
  encodePcp,
  type MappingGrant,
  MappingRefusedError,
  type MappingRequest,
  nonceBytes,
  portControlPort,
} from './port-control.ts'

/** A router that may open a port for this node. */
export interface Router {
  /** The protocol it speaks, once known. */
  readonly protocol: string
  /** Asks for a mapping, or to renew or take back the one that it gave; rejects with the reason. */
  ask(request: MappingRequest, signal: AbortSignal): Promise<MappingGrant>
}

/** How routers are asked; the default is the real network. */
export interface AskOptions {
  /** Of this node, in the network of the gateway. */
  readonly ownAddress: string
  /** Default 5351. */
  readonly port?: number
  readonly exchange?: typeof exchangeDatagram
  /** How long an answer to each datagram is waited for. */
  readonly patienceMs?: readonly number[]
}

/** A router in the LAN answers within milliseconds; a lost datagram is sent again twice. */
const usualPatienceMs = [250, 500, 1000]

/** Asks the gateway by PCP, and by NAT-PMP where it says that it knows only that. Its nonce is kept for renewals. */
export function createPortControlRouter(gateway: string, options: AskOptions): Router {
  const nonce = randomBytes(nonceBytes)
  const target = { address: gateway, port: options.port ?? portControlPort }
  let protocol: 'PCP' | 'NAT-PMP' = 'PCP'
  const byPcp = (request: MappingRequest, signal: AbortSignal) =>
    exchange(target, encodePcp(request, nonce, options.ownAddress), {
      ...options,
      decode: (answer) => decodePcp(answer, request, nonce),
      signal,
    })
  const byNatPmp = (request: MappingRequest, signal: AbortSignal) =>
    exchange(target, encodeNatPmp(request), { ...options, decode: (answer) => decodeNatPmp(answer, request), signal })
  return {
    get protocol() {
      return protocol
    },
    async ask(request, signal) {
      if (protocol === 'NAT-PMP') return await byNatPmp(request, signal)
      try {
        return await byPcp(request, signal)
      } catch (error) {
        if (!(error instanceof MappingRefusedError) || !error.isUnknownVersion) throw error
        const grant = await byNatPmp(request, signal)
        protocol = 'NAT-PMP'
        return grant
      }
    },
  }
}

interface Exchange extends AskOptions {
  decode(answer: Buffer): MappingGrant | undefined
  readonly signal: AbortSignal
}

async function exchange(
  target: SocketAddress,
  message: Buffer,
  { decode, signal, exchange: send = exchangeDatagram, ownAddress, patienceMs = usualPatienceMs }: Exchange,
): Promise<MappingGrant> {
  let failure: unknown
  for (const timeoutMs of patienceMs) {
    try {
      const answer = await send(target, message, {
        timeoutMs,
        signal,
        source: ownAddress,
        accept: (received) => isAnswer(decode, received),
      })
      const grant = decode(answer)
      if (grant !== undefined) return grant
    } catch (error) {
      signal.throwIfAborted()
      // A refusal, or a port that is closed: it would say the same again.
      if (Object(error).code !== 'ETIMEDOUT') throw error
      failure = error
    }
  }
  throw failure
}

/** A refusal is an answer too. */
function isAnswer(decode: Exchange['decode'], received: Buffer): boolean {
  try {
    return decode(received) !== undefined
  } catch {
    return true
  }
}
