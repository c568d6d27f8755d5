import type { InterfaceAddress } from '../../linux/index.ts'
import type { SocketAddress } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import type { TaskGroup } from '../../runtime/index.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { createPortControlRouter, type Router } from '../nat/ask-router.ts'
import { DialBacks } from '../nat/dial-back.ts'
import { createInternetGateway } from '../nat/internet-gateway.ts'
import { PortMapper } from '../nat/port-mapper.ts'
import { isInSubnetOf, isPublicAddress } from '../paths/direct-addresses.ts'

/** What asking routers for a port needs. */
export interface PortMappingOptions {
  readonly host: Pick<Host, 'handleRaw' | 'isProxied' | 'listeningPort'>
  /** Connections to servers that stand now. */
  servers(): readonly PeerConnection[]
  readonly interfaceAddresses: () => readonly InterfaceAddress[]
  /** Of the default routes, IPv4. */
  readonly gateways: () => readonly string[]
  readonly tasks: TaskGroup
  readonly logger: Logger
}

/** Asks the routers in front of this node for a port, in the background, until the tasks end. */
export function startPortMapping(options: PortMappingOptions): PortMapper {
  const { host, servers, interfaceAddresses, gateways, tasks, logger } = options
  const dialBacks = new DialBacks(host)
  const known = new Map<string, readonly Router[]>()
  const mapper = new PortMapper({
    // Whoever comes in must come past the proxy, and nobody can tell.
    routers: () => (witnessesOf(options).length === 0 ? [] : routersOf(gateways(), interfaceAddresses(), known)),
    situation: () =>
      [...interfaceAddresses().map(({ address }) => address), ...gateways(), ...servers().map(({ id }) => id)].join(
        ' ',
      ),
    port: host.listeningPort(),
    confirm: (port, signal) => confirm(options, dialBacks, port, signal),
    logger,
  })
  tasks.run('port of the router', async (signal) => {
    using _dialBacks = dialBacks
    await mapper.run(signal)
  })
  return mapper
}

/** Networks that a node was in: its mapping is still there when it comes back soon. */
const maxKnown = 16

/** The gateways of our subnets, unless an address of ours is public; the same objects each time, for what they remember. */
export function routersOf(
  gateways: readonly string[],
  interfaces: readonly InterfaceAddress[],
  known: Map<string, readonly Router[]>,
): Router[] {
  if (interfaces.some(({ address }) => isPublicAddress(address))) return []
  return gateways.flatMap((gateway) => {
    const own = interfaces.find((entry) => isInSubnetOf(gateway, entry))
    if (own === undefined) return []
    const key = `${gateway} ${own.address}`
    const routers = known.get(key) ?? [
      createPortControlRouter(gateway, { ownAddress: own.address }),
      createInternetGateway(gateway, { ownAddress: own.address }),
    ]
    known.set(key, routers)
    const [oldest] = known.keys()
    if (known.size > maxKnown && oldest !== undefined) known.delete(oldest)
    return routers
  })
}

/** Servers that can tell whether a port is open. */
function witnessesOf({ host, servers }: Pick<PortMappingOptions, 'host' | 'servers'>): readonly PeerConnection[] {
  return servers().filter((server) => !host.isProxied(server))
}

/** The first server that reaches us is believed: it has shown a token that only it could know. */
async function confirm(
  options: PortMappingOptions,
  dialBacks: DialBacks,
  port: number,
  signal: AbortSignal,
): Promise<SocketAddress> {
  const reasons: string[] = []
  for (const server of witnessesOf(options)) {
    try {
      const reached = await dialBacks.ask(server, port, signal)
      // A server in our own network has not come through the router.
      const own = options.interfaceAddresses()
      if (!own.some((entry) => entry.address === reached.address || isInSubnetOf(reached.address, entry)))
        return reached
    } catch (error) {
      signal.throwIfAborted()
      reasons.push(describeError(error))
    }
  }
  const why = reasons.length === 0 ? 'no server outside the network of this node is connected' : reasons.join('; ')
  throw new Error(`nobody reaches port ${port} of the router from outside: ${why}`)
}
