import type { InterfaceAddress } from '../../linux/index.ts'
import { sleep } from '../../runtime/index.ts'

/** What is looked at. */
export interface OwnNetworkOptions {
  /** Those by which this node and its neighbours know each other. */
  readonly interfaceAddresses: () => readonly InterfaceAddress[]
  /** Text that differs whenever another way leads out of this node. */
  readonly defaultRoutes: () => string
  /** Called at every look. */
  onLook(): Promise<void>
  /** Addresses or ways out are others than before, or this node has slept. */
  onChange(what: NetworkChange): void
  /** Time as clocks on walls show it; default `Date.now`. */
  readonly nowMs?: () => number
  /** Default `sleep`. */
  readonly pause?: typeof sleep
}

/** What has become of the network. */
export type NetworkChange = 'addresses' | 'routes' | 'sleep'

const lookMs = 1000

/** A pause that took so much longer was one of the whole process, or the machine. */
const sleptMs = 10_000

/** Looks at the network of this node once a second, until the signal aborts. */
export async function followOwnNetwork(options: OwnNetworkOptions, signal: AbortSignal): Promise<never> {
  const { interfaceAddresses, defaultRoutes, nowMs = Date.now, pause = sleep } = options
  const look = () => ({
    addresses: interfaceAddresses()
      .map(({ address, prefixLength }) => `${address}/${prefixLength}`)
      .sort()
      .join(),
    routes: defaultRoutes(),
    atMs: nowMs(),
  })
  let seen = look()
  for (;;) {
    await pause(lookMs, signal)
    await options.onLook()
    const now = look()
    if (now.addresses !== seen.addresses) options.onChange('addresses')
    else if (now.routes !== seen.routes) options.onChange('routes')
    else if (now.atMs - seen.atMs > sleptMs) options.onChange('sleep')
    seen = now
  }
}
