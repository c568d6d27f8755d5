import type { InterfaceAddress, NetworkView, NodeNetwork } from './node-network.ts'

/** An address with the name of its interface. */
export interface NamedAddress extends InterfaceAddress {
  readonly interface: string
}

/** This node's addresses as they are now, for callers that cannot wait. */
export interface AddressWatch extends Disposable {
  readonly current: readonly NamedAddress[]
  /** Differs whenever another way leads out of this node. */
  readonly defaultRoutes: string
  /** Those of the default routes, IPv4. */
  readonly defaultGateways: readonly string[]
}

/** Follows the addresses of the interfaces that are up; while they cannot be read the last ones stay. */
export async function watchAddresses(network: NodeNetwork, signal: AbortSignal): Promise<AddressWatch> {
  let current: readonly NamedAddress[] = []
  let defaultRoutes = ''
  let defaultGateways: readonly string[] = []
  const take = (view: NetworkView): void => {
    current = addressesOf(view)
    defaultGateways = view.defaultGateways
    defaultRoutes = [...view.defaultRouteInterfaces, ...view.defaultGateways].join(' ')
  }
  const refresh = async (): Promise<void> => {
    try {
      take(await network.view(signal))
    } catch {
      // The kernel was busy or we are stopping; the next change asks again.
    }
  }
  // Before the first look, so that no change falls between the two.
  const watching = await network.watch(() => void refresh())
  try {
    take(await network.view(signal))
  } catch (error) {
    watching[Symbol.dispose]()
    throw error
  }
  return {
    get current() {
      return current
    },
    get defaultRoutes() {
      return defaultRoutes
    },
    get defaultGateways() {
      return defaultGateways
    },
    [Symbol.dispose]: () => watching[Symbol.dispose](),
  }
}

function addressesOf(view: NetworkView): NamedAddress[] {
  return view.interfaces
    .filter(({ isUp }) => isUp)
    .flatMap(({ name, addresses }) => addresses.map((address) => ({ ...address, interface: name })))
}
