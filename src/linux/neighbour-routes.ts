import { requestOptions } from './netlink.ts'
import type { NeighbourRoute, NeighbourRouteFailure } from './node-network.ts'
import {
  bytesOf,
  createNew,
  familyIpv4,
  ignoring,
  indexOf,
  type Links,
  listLinks,
  listRoutes,
  nameOf,
  type RouteSocket,
  type Routes,
  routeProtocol,
  tables,
  textOf,
} from './route-messages.ts'

/** Worse than any route that others make, so that theirs to the same network can be added, and wins. */
const metric = 20_006

/** See `NodeNetwork.setNeighbourRoutes`. */
export async function setNeighbourRoutes(
  netlink: RouteSocket,
  wanted: readonly NeighbourRoute[],
  signal: AbortSignal,
): Promise<readonly NeighbourRouteFailure[]> {
  signal.throwIfAborted()
  const [links, routes] = await Promise.all([listLinks(netlink), listRoutes(netlink)])
  const existing = new Map(ownOf(routes, links).map((route) => [textOfRoute(route), route]))
  const kept = new Set(wanted.map(textOfRoute))
  const failures: NeighbourRouteFailure[] = []
  const attempt = async (route: NeighbourRoute, run: () => Promise<unknown>) => {
    try {
      await run()
    } catch (error) {
      failures.push({ route, error })
    }
  }
  // Removed before added: a route that only changes its next hop has the same key.
  for (const [text, route] of existing) {
    if (!kept.has(text)) await attempt(route, () => ignoring('ESRCH', () => remove(netlink, route, links)))
  }
  for (const route of wanted) {
    if (!existing.has(textOfRoute(route))) await attempt(route, () => add(netlink, route, links))
  }
  return failures
}

/** Ours are told apart from those to our own device, which have no next hop. */
function ownOf(routes: Routes, links: Links): NeighbourRoute[] {
  return routes
    .filter(({ data, attrs }) => {
      return data.protocol === routeProtocol && data.table === tables.main && attrs.gateway !== undefined
    })
    .map(({ data, attrs }) => ({
      network: `${textOf(attrs.dst)}/${data.dstLen}`,
      gateway: textOf(attrs.gateway),
      interface: nameOf(links, attrs.oif),
    }))
}

function add(netlink: RouteSocket, route: NeighbourRoute, links: Links): Promise<unknown> {
  const { data, attrs } = messageOf(route, links)
  return netlink.ask(`add the route to ${textOfRoute(route)}`, (socket) =>
    socket.newRoute({ ...data, type: 'UNICAST' }, attrs, createNew),
  )
}

function remove(netlink: RouteSocket, route: NeighbourRoute, links: Links): Promise<unknown> {
  const { data, attrs } = messageOf(route, links)
  return netlink.ask(`remove the route to ${textOfRoute(route)}`, (socket) =>
    socket.delRoute(data, attrs, requestOptions),
  )
}

function messageOf({ network, gateway, interface: name }: NeighbourRoute, links: Links) {
  const [base = '', length = ''] = network.split('/')
  const oif = indexOf(links, name)
  if (oif === undefined) throw new Error(`Cannot route ${network}: there is no interface ${name}`)
  return {
    // The kernel removes only what has this protocol too.
    data: { family: familyIpv4, dstLen: Number(length), table: tables.main, protocol: routeProtocol },
    attrs: { dst: bytesOf(base), gateway: bytesOf(gateway), oif, priority: metric },
  }
}

const textOfRoute = ({ network, gateway, interface: name }: NeighbourRoute): string =>
  `${network} via ${gateway} dev ${name}`
