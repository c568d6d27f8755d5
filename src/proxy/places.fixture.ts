import { placeKeyOf, type SyntheticPlace } from './synthetic-addresses.ts'
import type { UserspaceRoute } from './userspace/route-table.ts'

/** Places at a port, of which each is the same object again. */
export function createPlaces(port = 24001): (address: string) => SyntheticPlace {
  const places = new Map<string, SyntheticPlace>()
  return (address) => {
    const place = places.get(address) ?? { address, port }
    places.set(address, place)
    return place
  }
}

/** Routes by address, at the first port of a proxy. */
export function placed(
  { ports: [port = 0] }: { readonly ports: readonly number[] },
  routes: readonly (readonly [address: string, route: Omit<UserspaceRoute, 'place'>])[],
): Map<string, UserspaceRoute> {
  const at = routes.map(([address, route]) => ({ ...route, place: { address, port } }))
  return new Map(at.map((route) => [placeKeyOf(route.place), route]))
}
