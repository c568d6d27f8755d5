import type { InterfaceAddress } from '../../linux/index.ts'
import type { SocketAddress } from '../../net/index.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { socketAddressOf } from '../host/server-address.ts'
import { isInSubnetOf } from '../paths/direct-addresses.ts'
import { type Appearance, appearanceOf } from './mapping.ts'
import { observe } from './observation.ts'
import type { MeetingPort } from './side-port.ts'

/** Whom to ask, and what to compare with. */
export interface AppearanceOptions {
  readonly host: Pick<Host, 'dialFromPort' | 'listeningPort' | 'isProxied'>
  /** Connections to servers that stand now. */
  servers(): readonly PeerConnection[]
  readonly interfaceAddresses: () => readonly InterfaceAddress[]
  /** Where the router lets others in to the listening port; undefined when it does not. */
  mapped?(): SocketAddress | undefined
}

/** Two tell a NAT that changes ports from one that only has another port for us. */
const maxAsked = 2
const freshMs = 10_000

/** Asks servers how this node is seen; what they say holds for some seconds, and for one set of own addresses. */
export class AppearanceWatch {
  readonly #options: AppearanceOptions
  #last: { readonly key: string; readonly at: number; readonly asked: Promise<Appearance> } | undefined

  constructor(options: AppearanceOptions) {
    this.#options = options
  }

  /** How another port of this node is seen, asked anew; rejects as `current` does. */
  async ofPort(port: MeetingPort, signal: AbortSignal): Promise<Appearance> {
    return await this.#ask(port, signal)
  }

  /** How the listening port is seen; rejects when no server outside the own network can tell. */
  async current(signal: AbortSignal): Promise<Appearance> {
    const mapped = this.#options.mapped?.()
    if (mapped !== undefined) return { mapping: 'open', candidates: [mapped] }
    const servers = this.#options.servers()
    const own = this.#ownAddresses()
    const key = [...own, ...servers.map(({ id }) => id)].join(' ')
    const now = performance.now()
    const last = this.#last
    if (last?.key === key && now - last.at < freshMs) return await last.asked
    const asked = this.#ask(this.#options.host, signal)
    this.#last = { key, at: now, asked }
    asked.catch(() => {
      if (this.#last?.asked === asked) this.#last = undefined
    })
    return await asked
  }

  async #ask(from: Pick<MeetingPort, 'dialFromPort' | 'listeningPort'>, signal: AbortSignal): Promise<Appearance> {
    const { host } = this.#options
    const servers = this.#options.servers()
    const own = this.#ownAddresses()
    const reached = servers.filter((server) => !host.isProxied(server))
    if (servers.length > 0 && reached.length === 0) {
      throw new Error('the servers are reached through an HTTP proxy, which opens no holes')
    }
    const asked = reached.slice(0, maxAsked).map(async (server) => {
      const { host: address, port } = socketAddressOf(server.address)
      const seen = await observe(from, { address, port }, signal)
      return this.#isNeighbour(address) && own.includes(seen.address) ? undefined : seen
    })
    const outcomes = await Promise.allSettled(asked)
    const seen = outcomes.flatMap((outcome): SocketAddress[] => {
      return outcome.status === 'fulfilled' && outcome.value !== undefined ? [outcome.value] : []
    })
    const appearance = appearanceOf(seen, from.listeningPort(), own)
    if (appearance === undefined) throw new Error('no server outside the network of this node can tell how it is seen')
    return appearance
  }

  #ownAddresses(): string[] {
    return this.#options.interfaceAddresses().map(({ address }) => address)
  }

  /** A server in our own network sees nothing of the NAT. */
  #isNeighbour(address: string): boolean {
    return this.#options.interfaceAddresses().some((entry) => isInSubnetOf(address, entry))
  }
}
