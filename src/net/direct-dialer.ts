import { connect } from 'node:net'
import { assertDialable } from './assert-dialable.ts'
import { type ByteStream, DialError, type Dialer, type DialFailure, type DialTarget } from './dialer.ts'
import { isSelfConnection } from './self-connection.ts'
import { createSpareSources, type SpareSources } from './spare-sources.ts'
import { whenConnected } from './when-connected.ts'

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
      assertDialable(target, 'tcp')
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

function connectTo(target: DialTarget, localAddress: string | undefined, signal: AbortSignal): Promise<ByteStream> {
  const socket = connect({
    host: target.address,
    port: target.port,
    ...(localAddress === undefined ? {} : { localAddress }),
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveDelayMs,
  })
  return whenConnected(socket, signal, {
    errorOf: dialErrorOf,
    refusalOf() {
      if (!isSelfConnection(socket, target.port)) return undefined
      return new DialError('refused', `connect ECONNREFUSED ${target.address}:${target.port} (it would reach itself)`)
    },
  })
}

/** What a socket's error means to whoever dialled; its text stays. */
export function dialErrorOf(error: NodeJS.ErrnoException): DialError {
  return new DialError(failureOfCode[error.code ?? ''] ?? 'unreachable', error.message, { cause: error })
}
