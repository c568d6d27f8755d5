import { type Logger, silentLogger } from '../observability/index.ts'
import { AddressTakenError, NetlinkError } from './errors.ts'
import { setNeighbourRoutes } from './neighbour-routes.ts'
import { decodeAttributes, encodeAttribute, openRouteSocket, requestOptions } from './netlink.ts'
import { NetworkWatch } from './network-watch.ts'
import type { DeviceSpec, HostRoutes, NetworkInterface, NetworkView, NodeNetwork } from './node-network.ts'
import {
  type Addresses,
  bytesOf,
  createNew,
  familyIpv4,
  ignoring,
  indexOf,
  type Links,
  listAddresses,
  listLinks,
  listRoutes,
  nameOf,
  type RouteSocket,
  type Routes,
  routeProtocol,
  scopes,
  tables,
  textOf,
} from './route-messages.ts'

/** Speaks rtnetlink in the network namespace of this process. */
export async function createNodeNetwork(logger: Logger = silentLogger): Promise<NodeNetwork> {
  const netlink = await openRouteSocket()
  const changes = new NetworkWatch({ fingerprint: () => fingerprintOf(netlink), logger })
  return {
    ensureDevice: (device, signal) => ensureDevice(netlink, device, signal),
    async removeDevice(name, signal) {
      signal.throwIfAborted()
      const index = indexOf(await listLinks(netlink), name)
      if (index === undefined) return
      await ignoring('ENODEV', () =>
        netlink.ask(`remove device ${name}`, (socket) => socket.delLink({ index }, {}, requestOptions)),
      )
    },
    setHostRoutes: (device, routes, signal) => setHostRoutes(netlink, device, routes, signal),
    setNeighbourRoutes: (routes, signal) => setNeighbourRoutes(netlink, routes, signal),
    async view(signal) {
      signal.throwIfAborted()
      return viewOf(...(await listAll(netlink)))
    },
    watch: (onChange) => changes.add(onChange),
    [Symbol.dispose]() {
      changes[Symbol.dispose]()
      netlink[Symbol.dispose]()
    },
  }
}

const listAll = (netlink: RouteSocket): Promise<[Links, Addresses, Routes]> =>
  Promise.all([listLinks(netlink), listAddresses(netlink), listRoutes(netlink)])

async function ensureDevice(netlink: RouteSocket, device: DeviceSpec, signal: AbortSignal): Promise<boolean> {
  signal.throwIfAborted()
  const links = await listLinks(netlink)
  const addresses = await listAddresses(netlink)
  const ours = indexOf(links, device.name)
  const holder = addresses.find(({ data, attrs }) => textOf(attrs.local) === device.address && data.index !== ours)
  if (holder !== undefined) {
    throw new AddressTakenError(device.address, device.name, nameOf(links, holder.data.index))
  }
  const index = ours ?? (await createDevice(netlink, device.name))
  await bringUp(netlink, device.name, index)
  const has = addresses.some(({ data, attrs }) => data.index === index && textOf(attrs.local) === device.address)
  if (!has) await addAddress(netlink, device, index)
  await ensureLocalRoute(netlink, device, index)
  return ours === undefined
}

async function createDevice(netlink: RouteSocket, name: string): Promise<number> {
  try {
    await createLink(netlink, name, 'dummy')
  } catch (error) {
    // Not every kernel has dummy devices; a bridge without ports does the same.
    if (!(error instanceof NetlinkError) || !['ENOTSUP', 'EOPNOTSUPP'].includes(error.code)) throw error
    await createLink(netlink, name, 'bridge')
  }
  const index = indexOf(await listLinks(netlink), name)
  if (index === undefined) throw new Error(`Cannot find device ${name} after it was made`)
  return index
}

function createLink(netlink: RouteSocket, name: string, kind: string): Promise<unknown> {
  // The library takes this attribute only as bytes: IFLA_INFO_KIND, a text ending in NUL.
  const linkinfo = encodeAttribute(1, Buffer.from(`${kind}\0`))
  return netlink.ask(`make device ${name}`, (socket) => socket.newLink({}, { ifname: name, linkinfo }, createNew))
}

async function bringUp(netlink: RouteSocket, name: string, index: number): Promise<void> {
  const up = { up: true } as const
  const link = (await listLinks(netlink)).find(({ data }) => data.index === index)
  if (link?.data.flags?.up === true) return
  await netlink.ask(`bring up device ${name}`, (socket) =>
    socket.setLink({ index, flags: up, change: up }, {}, requestOptions),
  )
}

async function addAddress(netlink: RouteSocket, device: DeviceSpec, index: number): Promise<void> {
  const address = bytesOf(device.address)
  // Scope "link" keeps the kernel from choosing it as the source of packets that leave by other devices.
  const data = { family: familyIpv4, prefixlen: 32, scope: scopes.link, index }
  await ignoring('EEXIST', () =>
    netlink.ask(`put ${device.address} on ${device.name}`, (socket) =>
      socket.newAddress(data, { local: address, address }, createNew),
    ),
  )
}

async function ensureLocalRoute(netlink: RouteSocket, device: DeviceSpec, index: number): Promise<void> {
  const [base = '', length = ''] = device.syntheticRange.split('/')
  const dstLen = Number(length)
  const exists = (await listRoutes(netlink)).some(
    ({ data, attrs }) => data.dstLen === dstLen && textOf(attrs.dst) === base && attrs.oif === index,
  )
  if (exists) return
  const data = { family: familyIpv4, dstLen, table: tables.local, type: 'LOCAL' as const, scope: scopes.host }
  await ignoring('EEXIST', () =>
    netlink.ask(`route ${device.syntheticRange} to this node`, (socket) =>
      socket.newRoute({ ...data, protocol: routeProtocol }, { dst: bytesOf(base), oif: index }, createNew),
    ),
  )
}

async function setHostRoutes(
  netlink: RouteSocket,
  device: string,
  { addresses, source }: HostRoutes,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted()
  const index = indexOf(await listLinks(netlink), device)
  if (index === undefined) return
  const prefsrc = source === undefined ? undefined : bytesOf(source)
  const shape = { family: familyIpv4, dstLen: 32, table: tables.main, scope: scopes.link, protocol: routeProtocol }
  const wanted = new Set(addresses)
  const routes = (await listRoutes(netlink)).filter(
    ({ data, attrs }) => data.protocol === routeProtocol && data.table === tables.main && attrs.oif === index,
  )
  const existing = new Map(routes.map(({ attrs }) => [textOf(attrs.dst), textOf(attrs.prefsrc)]))
  const stale = [...existing.keys()].filter(
    (address) => !wanted.has(address) || existing.get(address) !== (source ?? ''),
  )
  // Removed before added: a route that only changes its source has the same key.
  await Promise.all(
    stale.map((address) =>
      ignoring('ESRCH', () =>
        netlink.ask(`remove the route to ${address}`, (socket) =>
          socket.delRoute(shape, { dst: bytesOf(address), oif: index }, requestOptions),
        ),
      ),
    ),
  )
  const missing = [...wanted].filter((address) => existing.get(address) !== (source ?? ''))
  await Promise.all(
    missing.map((address) => {
      const attrs = { dst: bytesOf(address), oif: index, ...(prefsrc === undefined ? {} : { prefsrc }) }
      return ignoring('EEXIST', () =>
        netlink.ask(`route ${address} to ${device}`, (socket) =>
          socket.newRoute({ ...shape, type: 'UNICAST' }, attrs, createNew),
        ),
      )
    }),
  )
}

/** Text that differs whenever a link, its carrier, an address or a route does; counters and lifetimes are no part of it. */
async function fingerprintOf(netlink: RouteSocket): Promise<string> {
  const [links, addresses, routes] = await listAll(netlink)
  return JSON.stringify([
    links.map((link) => [link.data.index, link.data.flags?.running, interfaceOf(link, addresses)]),
    routes.map(({ data: { table, dstLen, type, protocol }, attrs }) => {
      const { dst, oif, gateway, prefsrc, multipath } = attrs
      const addressed = [dst, gateway, prefsrc].map(textOf)
      return [table, dstLen, type, protocol, oif, addressed, nextHopsOf(multipath)].join()
    }),
  ])
}

function viewOf(links: Links, addresses: Addresses, routes: Routes): NetworkView {
  const names = new Set<string>()
  const gateways = new Set<string>()
  for (const { data, attrs } of routes) {
    if (data.dstLen !== 0 || data.table !== tables.main || !isUnicast(data.type)) continue
    for (const index of [attrs.oif, ...nextHopsOf(attrs.multipath)]) names.add(nameOf(links, index))
    if (attrs.gateway !== undefined) gateways.add(textOf(attrs.gateway))
  }
  return {
    interfaces: links.map((link) => interfaceOf(link, addresses)),
    defaultRouteInterfaces: [...names].sort(),
    defaultGateways: [...gateways].sort(),
    routes: routes.flatMap(({ data, attrs }) => {
      if (data.dstLen === 0 || data.table !== tables.main) return []
      const network = `${textOf(attrs.dst)}/${data.dstLen}`
      const link = attrs.oif === undefined ? {} : { interface: nameOf(links, attrs.oif) }
      const via = attrs.gateway === undefined ? {} : { gateway: textOf(attrs.gateway) }
      const isOurs = data.protocol === routeProtocol ? { isOurs: true as const } : {}
      return [{ network, leadsSomewhere: isUnicast(data.type), ...link, ...via, ...isOurs }]
    }),
  }
}

const isUnicast = (type: unknown): boolean => type === 'UNICAST' || type === 1

function interfaceOf({ data, attrs }: Links[number], addresses: Addresses): NetworkInterface {
  const info = decodeAttributes(attrs.linkinfo ?? Buffer.alloc(0))
  const bridge = decodeAttributes(info.get(2) ?? Buffer.alloc(0))
  return {
    name: attrs.ifname ?? '',
    kind: info.get(1)?.toString().replace(/\0+$/, ''),
    isUp: data.flags?.up === true,
    isLoopback: data.flags?.loopback === true,
    addresses: addresses
      .filter((address) => address.data.index === data.index)
      .map((address) => ({ address: textOf(address.attrs.local), prefixLength: address.data.prefixlen ?? 32 })),
    // IFLA_BR_NF_CALL_IPTABLES
    bridgeNetfilter: bridge.get(36)?.[0] === 1,
  }
}

/** The interface indexes of RTA_MULTIPATH: length, flags, hops, index, then attributes, each padded to 4 bytes. */
function nextHopsOf(multipath: Buffer | undefined): number[] {
  const indexes: number[] = []
  for (let at = 0; multipath !== undefined && at + 8 <= multipath.length; ) {
    indexes.push(multipath.readInt32LE(at + 4))
    at += Math.max(8, Math.ceil(multipath.readUInt16LE(at) / 4) * 4)
  }
  return indexes
}
