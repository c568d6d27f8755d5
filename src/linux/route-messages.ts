import type { RtNetlinkSocket } from 'netlink'
import { NetlinkError } from './errors.ts'
import { type NetlinkRequests, requestOptions } from './netlink.ts'

/** Where links, addresses and routes are asked for. */
export type RouteSocket = NetlinkRequests<RtNetlinkSocket>
/** Links as the library reads them. */
export type Links = Awaited<ReturnType<RtNetlinkSocket['getLinks']>>
/** IPv4 addresses as the library reads them. */
export type Addresses = Awaited<ReturnType<RtNetlinkSocket['getAddresses']>>
/** IPv4 routes of all tables as the library reads them. */
export type Routes = Awaited<ReturnType<RtNetlinkSocket['getRoutes']>>

/** AF_INET. */
export const familyIpv4 = 2
/** Marks routes as ours; the kernel only stores it, and `ip route` shows it as `proto 96`. */
export const routeProtocol: number = 96
/** Routing tables by number. */
export const tables = { main: 254, local: 255 }
/** Scopes of addresses and routes by number. */
export const scopes = { link: 253, host: 254 }
/** NLM_F_CREATE and NLM_F_EXCL. */
export const createNew = { ...requestOptions, flags: 0x400 | 0x200 }

/** All links of the namespace. */
export const listLinks = (netlink: RouteSocket): Promise<Links> =>
  netlink.ask('list devices', (socket) => socket.getLinks({}, {}, requestOptions))
/** All IPv4 addresses of the namespace. */
export const listAddresses = (netlink: RouteSocket): Promise<Addresses> =>
  netlink.ask('list addresses', (socket) => socket.getAddresses({ family: familyIpv4 }, {}, requestOptions))
/** All IPv4 routes of the namespace. */
export const listRoutes = (netlink: RouteSocket): Promise<Routes> =>
  netlink.ask('list routes', (socket) => socket.getRoutes({ family: familyIpv4 }, {}, requestOptions))

/** The index of a link; undefined when there is none of this name. */
export const indexOf = (links: Links, name: string): number | undefined =>
  links.find(({ attrs }) => attrs.ifname === name)?.data.index
/** The name of a link, or `#INDEX` when it is gone. */
export const nameOf = (links: Links, index: number | undefined): string =>
  links.find(({ data }) => data.index === index)?.attrs.ifname ?? `#${index}`
/** Dotted quad of an address; empty when absent. */
export const textOf = (address: Buffer | undefined): string => (address === undefined ? '' : [...address].join('.'))
/** The bytes of a dotted quad. */
export const bytesOf = (address: string): Buffer => Buffer.from(address.split('.').map(Number))

/** Takes this answer of the kernel for success. */
export async function ignoring(code: string, run: () => Promise<unknown>): Promise<void> {
  try {
    await run()
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.code !== code) throw error
  }
}
