import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { createSecureContext, type SecureContext, TLSSocket, connect as tlsConnect } from 'node:tls'
import type { TcpSocket } from '../../net/index.ts'
import { createCertificate } from './certificate.ts'
import type { LinkSide } from './hello.ts'

const exporterLabel = 'EXPORTER-edgemesh-link-v1'

/**
 * What is buffered for the kernel at once: enough to fill it, little enough that a small frame soon has its turn.
 * Node takes this option, but its types do not know it.
 */
const tuning = { highWaterMark: 256 * 1024 }

/** The TLS of all links of a process. */
export interface LinkTls {
  /** Encrypts a connected socket; resolves when the handshake is done. The socket goes with the result. */
  secure(socket: TcpSocket, side: LinkSide, signal: AbortSignal): Promise<TLSSocket>
}

/** Makes a throwaway certificate; ciphers follow what this CPU is fast at. */
export function createLinkTls(): LinkTls {
  const context = createSecureContext({ ...createCertificate(), minVersion: 'TLSv1.3', ciphers: cipherOf(hasAes()) })
  return {
    async secure(socket, side, signal) {
      const secured = side === 'client' ? clientOf(socket, context) : serverOf(socket, context)
      secured.on('error', () => {})
      const onAbort = () => secured.destroy()
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        if (signal.aborted) onAbort()
        await Promise.race([once(secured, side === 'client' ? 'secureConnect' : 'secure'), lossOf(secured)])
        // OpenSSL is still reading when it tells of this; a connection that is destroyed in there takes the process along.
        await setImmediate()
        signal.throwIfAborted()
        if (secured.destroyed) throw secured.errored ?? new Error('the connection was lost after the TLS handshake')
        return secured
      } catch (error) {
        secured.destroy()
        signal.throwIfAborted()
        throw error
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    },
  }
}

/** A value that only the two ends of this very connection know. */
export function exporterOf(socket: TLSSocket): Buffer {
  return socket.exportKeyingMaterial(32, exporterLabel, Buffer.alloc(0))
}

/** AES with the CPU's instructions is the fastest; without them ChaCha20 is. */
export function cipherOf(isAesFast: boolean): string {
  const [aes, chacha] = ['TLS_AES_128_GCM_SHA256', 'TLS_CHACHA20_POLY1305_SHA256']
  return (isAesFast ? [aes, chacha] : [chacha, aes]).join(':')
}

function hasAes(): boolean {
  try {
    return /^(?:flags|Features)\s*:.*\baes\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'))
  } catch {
    return true
  }
}

// The certificate proves nothing, so it is not looked at: HELLO proves both ends.
function clientOf(socket: TcpSocket, secureContext: SecureContext): TLSSocket {
  return tlsConnect({ socket, secureContext, rejectUnauthorized: false, ...tuning })
}

function serverOf(socket: TcpSocket, secureContext: SecureContext): TLSSocket {
  return new TLSSocket(socket, { isServer: true, secureContext, ...tuning })
}

async function lossOf(socket: TLSSocket): Promise<never> {
  await once(socket, 'close')
  throw socket.errored ?? new Error('the connection was closed in the TLS handshake')
}
