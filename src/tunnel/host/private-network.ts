import type { ConnectionProtector, MessageStream } from '@libp2p/interface'
import { preSharedKey } from '@libp2p/pnet'
import { swarmKeyOf } from '../identity/pre-shared-key.ts'

/** The library's stream cipher: it changes its state with each update, so order matters and size does not. */
interface StreamCipher {
  update(input: Uint8Array): Uint8Array
  finalize(): void
}

/**
 * The cipher runs in WebAssembly memory that all connections share. An update larger than that memory makes it grow,
 * which detaches the views of all other connections; each of them then grows it once more, until it cannot.
 */
const safeUpdateBytes = 32 * 1024

/** Encrypts whole connections with the pre-shared key, so that only members of the mesh get as far as a handshake. */
export function privateNetwork(key: Uint8Array): () => ConnectionProtector {
  const createProtector = preSharedKey({ psk: swarmKeyOf(key) })
  return () => {
    const protector = createProtector()
    return {
      async protect(connection, options) {
        const boxed = await protector.protect(connection, options)
        tame(boxed, 'inboundXor')
        tame(boxed, 'outboundXor')
        return boxed
      },
    }
  }
}

/** Feeds the cipher in safe pieces, and returns its slot of the shared memory when the connection closes. */
function tame(boxed: MessageStream, property: 'inboundXor' | 'outboundXor'): void {
  const cipher: StreamCipher | undefined = Reflect.get(boxed, property)
  if (cipher === undefined) throw new Error(`Cannot use this version of @libp2p/pnet: it has no ${property}`)
  let isOpen = true
  Reflect.set(boxed, property, {
    update: (input: Uint8Array) => (isOpen ? updateInPieces(cipher, input) : new Uint8Array(0)),
  })
  boxed.addEventListener('close', () => {
    if (isOpen) cipher.finalize()
    isOpen = false
  })
}

function updateInPieces(cipher: StreamCipher, input: Uint8Array): Uint8Array {
  if (input.length <= safeUpdateBytes) return cipher.update(input)
  const output = new Uint8Array(input.length)
  for (let start = 0; start < input.length; start += safeUpdateBytes) {
    output.set(cipher.update(input.subarray(start, start + safeUpdateBytes)), start)
  }
  return output
}
