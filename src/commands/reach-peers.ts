import { createMemoryStreamPair, type Dialer } from '../net/index.ts'
import type { ReachPeers, ServiceProxy } from '../proxy/index.ts'
import type { Tunnel } from '../tunnel/index.ts'

/** Other nodes as the tunnel knows them, for the proxy that wants to ask them who they are. */
export function reachPeersOf(tunnel: Tunnel): ReachPeers {
  return {
    openFlow(nodeName, signal) {
      const nowhere = { address: '0.0.0.0', port: 1 }
      return tunnel.dialer.dial({ protocol: 'tcp', nodeName, kind: 'reach', ...nowhere }, signal)
    },
    near() {
      const near = tunnel.status().peers.filter(({ path }) => path.kind === 'lan')
      return new Set(near.map(({ name }) => name))
    },
    lanAddresses() {
      const entries = tunnel.status().peers.flatMap(({ name, path }) => {
        const address = path.kind === 'lan' ? ipv4Of(path.address) : undefined
        return address === undefined ? [] : [[name, address] as const]
      })
      return new Map(entries)
    },
    direct() {
      const near = tunnel.status().peers.filter(({ path }) => path.kind === 'lan' || path.kind === 'direct')
      return new Set(near.map(({ name }) => name))
    },
  }
}

/** The IPv4 address in a multiaddress or `address:port`; undefined without one. */
function ipv4Of(address: string): string | undefined {
  return /^(?:\/ip4\/|::ffff:)?(\d+\.\d+\.\d+\.\d+)(?=[:/]|$)/.exec(address)?.[1]
}

/** A dialer for peers' flows that brings those which bring keys to the proxy, and all others to their target. */
export function createInwardDialer(local: Dialer, proxy: () => Pick<ServiceProxy, 'answerPeer'> | undefined): Dialer {
  return {
    async dial(target, signal) {
      if (target.kind !== 'reach') return await local.dial(target, signal)
      const [ours, theirs] = createMemoryStreamPair()
      const answering = proxy()
      if (answering === undefined) theirs.destroy()
      else answering.answerPeer(theirs)
      return ours
    },
  }
}
