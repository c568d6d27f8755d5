import type { ConnectionProtector, MessageStream } from '@libp2p/interface'
import { preSharedKey } from '@libp2p/pnet'
import xsalsa20 from 'xsalsa20'
import type { KeyRing } from '../identity/key-ring.ts'
import { swarmKeyOf } from '../identity/pre-shared-key.ts'

/** The library's stream cipher: it changes its state with each update, so order matters and size does not. */
interface StreamCipher {
  update(input: Uint8Array): Uint8Array
  finalize(): void
}

/** The other end has none of our pre-shared keys. */
export class KeyMismatchError extends Error {
  override readonly name = 'KeyMismatchError'
  readonly code = 'EDGEMESH_PSK_MISMATCH'

  constructor() {
    super('the first bytes of the other end make sense with no pre-shared key of this node')
  }
}

/** True for failures after TCP was connected and before the peer proved its identity. */
export function isHandshakeFailure(error: unknown): boolean {
  return error instanceof Error && error.name === 'EncryptionFailedError'
}

/** Options of a dial that reach the protector. */
export interface KeyChoice {
  /** Dials with the key before the current one. */
  readonly usesPreviousKey?: boolean
}

/**
 * The cipher runs in WebAssembly memory that all connections share. An update larger than that memory makes it grow,
 * which detaches the views of all other connections; each of them then grows it once more, until it cannot.
 */
const safeUpdateBytes = 32 * 1024

const nonceBytes = 24

/** Each end begins so, whoever it is and whatever it asks for: protocol negotiation, with its length before it. */
const firstText = Buffer.from('\x13/multistream/1.0.0\n')

/**
 * Encrypts whole connections with the pre-shared key, so that only members of the mesh get as far as a handshake. Nothing
 * on the wire says which key an end has: the one that makes sense of its first bytes is it. Who dials chooses the key;
 * who is dialled speaks after it has heard, and with the same key.
 */
export function privateNetwork(ring: KeyRing): () => ConnectionProtector {
  return () => ({
    async protect(connection, options) {
      // The second case is that both ends dial each other at once.
      const isDialled = connection.direction === 'inbound' || Reflect.get(Object(options), 'initiator') === false
      const usesPrevious: unknown = Reflect.get(Object(options), 'usesPreviousKey' satisfies keyof KeyChoice)
      const key = usesPrevious === true ? (ring.previous ?? ring.current) : ring.current
      const candidates = isDialled ? ring.all : [key]
      const nonces = watchNonces(connection)
      const boxed = await preSharedKey({ psk: swarmKeyOf(key) })().protect(connection, options)
      const outbound = tame(boxed, 'outboundXor')
      const inbound = tame(boxed, 'inboundXor')
      inbound.decide((first) => {
        const chosen = candidates.find((candidate) => opens(first, nonces.remote, candidate))
        if (chosen === undefined) {
          // Not from within the connection's own handling of these bytes.
          queueMicrotask(() => boxed.abort(new KeyMismatchError()))
          return
        }
        if (chosen === key) return
        inbound.replace(xsalsa20(nonces.remote, chosen))
        outbound.replace(xsalsa20(nonces.local, chosen))
      })
      connection.resume()
      return boxed
    },
  })
}

function opens(first: Uint8Array, nonce: Uint8Array, key: Uint8Array): boolean {
  const cipher = xsalsa20(nonce, key)
  const text = cipher.update(first)
  cipher.finalize()
  return firstText.equals(text)
}

/**
 * Both ends' nonces, which are the first bytes that go each way; the library keeps them to itself. Pauses the connection
 * after the other end's, or the library would decrypt what follows before the key is chosen.
 */
function watchNonces(connection: MessageStream): { readonly local: Uint8Array; readonly remote: Uint8Array } {
  let local = Buffer.alloc(0)
  let remote = Buffer.alloc(0)
  const onMessage = ({ data }: { readonly data: Parameters<MessageStream['send']>[0] }) => {
    remote = Buffer.concat([remote, data.subarray()])
    if (remote.length < nonceBytes) return
    connection.removeEventListener('message', onMessage)
    connection.pause()
  }
  connection.addEventListener('message', onMessage)
  const send = connection.send.bind(connection)
  connection.send = (data) => {
    local = Buffer.concat([local, data.subarray()])
    if (local.length >= nonceBytes) connection.send = send
    return send(data)
  }
  return {
    get local() {
      return local.subarray(0, nonceBytes)
    },
    get remote() {
      return remote.subarray(0, nonceBytes)
    },
  }
}

/** A cipher of a connection that can still be exchanged for one with another key. */
interface TamedCipher {
  replace(cipher: StreamCipher): void
  /** Shows the first bytes, still encrypted, before they and all others are decrypted. */
  decide(onFirst: (first: Uint8Array) => void): void
}

/** Feeds the cipher in safe pieces, and returns its slot of the shared memory when the connection closes. */
function tame(boxed: MessageStream, property: 'inboundXor' | 'outboundXor'): TamedCipher {
  const original: StreamCipher | undefined = Reflect.get(boxed, property)
  if (original === undefined) throw new Error(`Cannot use this version of @libp2p/pnet: it has no ${property}`)
  let cipher = original
  let isOpen = true
  let undecided: ((first: Uint8Array) => void) | undefined
  let held = Buffer.alloc(0)
  const update = (input: Uint8Array): Uint8Array => {
    if (!isOpen) return new Uint8Array(0)
    if (undecided === undefined) return updateInPieces(cipher, input)
    held = Buffer.concat([held, input])
    if (held.length < firstText.length) return new Uint8Array(0)
    undecided(held.subarray(0, firstText.length))
    undecided = undefined
    return updateInPieces(cipher, held)
  }
  Reflect.set(boxed, property, { update })
  boxed.addEventListener('close', () => {
    if (isOpen) cipher.finalize()
    isOpen = false
  })
  return {
    replace(other) {
      cipher.finalize()
      cipher = other
    },
    decide(onFirst) {
      undecided = onFirst
    },
  }
}

function updateInPieces(cipher: StreamCipher, input: Uint8Array): Uint8Array {
  if (input.length <= safeUpdateBytes) return cipher.update(input)
  const output = new Uint8Array(input.length)
  for (let start = 0; start < input.length; start += safeUpdateBytes) {
    output.set(cipher.update(input.subarray(start, start + safeUpdateBytes)), start)
  }
  return output
}
