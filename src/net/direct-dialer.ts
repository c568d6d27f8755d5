import { connect, isIP } from 'node:net'
import { type ByteStream, DialError, type Dialer, type DialFailure, type DialTarget } from './dialer.ts'
import { isSelfConnection } from './self-connection.ts'
import { createSpareSources, type SpareSources } from './spare-sources.ts'

/** An idle connection is probed after this long, so that peers that vanished without a word are noticed. */
export const keepAliveDelayMs = 60_000

const failureOfCode: Readonly<Record<string, DialFailure>> = {
  ECONNREFUSED: 'refused',
  ECONNRESET: 'refused',
  EMFILE: 'overloaded',
  ENFILE: 'overloaded',
  ENOBUFS: 'overloaded',
  ENOMEM: 'overloaded',
  EAGAIN: 'overloaded',
  // All local ports towards this target are in use.
  EADDRNOTAVAIL: 'overloaded',
  EADDRINUSE: 'overloaded',
}

/** Dials TCP from this node's own network stack; `localAddress` sets the source address. Names are never resolved. */
export function createDirectDialer(options: { readonly localAddress?: string } = {}): Dialer {
  const spare = createSpareSources()
  return {
    async dial(target, signal) {
      signal.throwIfAborted()
      refuseUndialable(target)
      const { localAddress } = options
      // Only what is on this very node can be reached from any of its addresses.
      if (localAddress !== undefined || target.nodeName === undefined)
        return await connectTo(target, localAddress, signal)
      return await connectFromAny(target, spare, signal)
    },
  }
}

/** A connection that we close first keeps its port for a minute; with none left, other source addresses have some. */
async function connectFromAny(target: DialTarget, spare: SpareSources, signal: AbortSignal): Promise<ByteStream> {
  const key = `${target.address} ${target.port}`
  for (let attempt = 1; ; attempt++) {
    try {
      return await connectTo(target, spare.sourceFor(key), signal)
    } catch (error) {
      const isOutOfPorts = error instanceof DialError && outOfPorts.has(causeCodeOf(error))
      if (!isOutOfPorts || attempt === mostSources || !spare.usedUp(key)) throw error
    }
  }
}

const mostSources = 6
const outOfPorts: ReadonlySet<string> = new Set(['EADDRNOTAVAIL', 'EADDRINUSE'])

function causeCodeOf({ cause }: DialError): string {
  return String((cause as NodeJS.ErrnoException | undefined)?.code)
}

/** Dials targets on this node, or on none in particular, with `direct` and all others with `remote`. */
export function createNodeAwareDialer(localNode: string, direct: Dialer, remote: Dialer): Dialer {
  return {
    dial(target, signal) {
      const isRemote = target.nodeName !== undefined && target.nodeName !== localNode
      return (isRemote ? remote : direct).dial(target, signal)
    },
  }
}

/** Targets also arrive from peers, so what `connect` would throw on or look up in DNS is refused here. */
function refuseUndialable({ protocol, address, port }: DialTarget): void {
  if (protocol !== 'tcp') throw new DialError('forbidden', `connect ${protocol} ${address}:${port}: not a byte stream`)
  if (isIP(address) === 0) throw new DialError('forbidden', `connect ${address}:${port}: not an IP address`)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new DialError('forbidden', `connect ${address}:${port}: not a port`)
  }
}

function connectTo(target: DialTarget, localAddress: string | undefined, signal: AbortSignal): Promise<ByteStream> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: target.address,
      port: target.port,
      ...(localAddress === undefined ? {} : { localAddress }),
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveDelayMs,
    })
    const settle = (outcome: () => void) => {
      signal.removeEventListener('abort', onAbort)
      outcome()
    }
    const onAbort = () => {
      socket.destroy()
      settle(() => reject(signal.reason))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('connect', () => {
      if (!isSelfConnection(socket, target.port)) {
        settle(() => resolve(socket))
        return
      }
      socket.resetAndDestroy()
      const message = `connect ECONNREFUSED ${target.address}:${target.port} (it would reach itself)`
      settle(() => reject(new DialError('refused', message)))
    })
    // Stays for the socket's life: it may fail before its next owner listens, and that must not end the process.
    socket.on('error', (error) => settle(() => reject(dialErrorOf(error))))
  })
}

/** What a socket's error means to whoever dialled; its text stays. */
export function dialErrorOf(error: NodeJS.ErrnoException): DialError {
  return new DialError(failureOfCode[error.code ?? ''] ?? 'unreachable', error.message, { cause: error })
}
