import type { Catalog, Snapshot } from '../../catalog/index.ts'
import { holdsIpv4, type Ipv4Network, ipv4ToNumber, parseIpv4Network } from '../../model/index.ts'
import { DialError } from '../../net/index.ts'
import { type OpenRequest, targetTextOf } from './open-message.ts'

/** Why a target is not dialled for a peer: the label of the metric. */
export type RefusalReason = 'address' | 'node-name' | 'node-port' | 'unknown-target'

/** A target that is not dialled. */
export interface Refusal {
  readonly reason: RefusalReason
  readonly error: DialError
}

/** What targets are checked against. */
export interface TargetCheckOptions {
  readonly nodeName: string
  readonly catalog: Catalog
  /** Ports of this node itself that peers may reach; absent means none. */
  readonly allowNodePorts?: readonly number[]
  /** More networks that are never dialled, as CIDR text: the synthetic range. */
  readonly forbiddenNetworks: readonly string[]
  /** How long a target that no Service has yet may take to appear: the dialler may know of it earlier than we do. */
  readonly holdMs: number
}

// This host, loopback, link-local (with the bridge address and clouds' metadata services), multicast, reserved.
const neverDialled = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4']

/** Decides whether a peer may reach a target through this node; undefined means yes. */
export function createTargetCheck(
  options: TargetCheckOptions,
): (request: OpenRequest, signal: AbortSignal) => Refusal | undefined | Promise<Refusal | undefined> {
  const { nodeName, catalog } = options
  const forbidden = [...neverDialled, ...options.forbiddenNetworks].map(parseNetwork)
  return (request, signal) => {
    if (request.nodeName !== nodeName) {
      const message = `Cannot connect to ${targetTextOf(request)} on ${request.nodeName}: this is ${nodeName}`
      return { reason: 'node-name', error: new DialError('forbidden', message) }
    }
    if (request.kind === 'reach') return undefined
    if (request.kind === 'node') return checkNodePort(request, options)
    if (isForbiddenAddress(request.address, forbidden)) {
      const message = `Cannot connect to ${targetTextOf(request)} on ${nodeName}: such addresses are not reachable through the tunnel`
      return { reason: 'address', error: new DialError('forbidden', message) }
    }
    if (catalog.current.servicePortOfTarget(request) !== undefined) return undefined
    return refusalLater(options, request, signal)
  }
}

/** Refuses unless a Service gets the target soon. */
async function refusalLater(
  { nodeName, catalog, holdMs }: TargetCheckOptions,
  request: OpenRequest,
  signal: AbortSignal,
): Promise<Refusal | undefined> {
  if (await isServed(catalog, request, holdMs, signal)) return undefined
  const message = `Cannot connect to ${targetTextOf(request)} on ${nodeName}: no Service has this endpoint there`
  return { reason: 'unknown-target', error: new DialError('unknown-target', message) }
}

function checkNodePort(
  { protocol, port }: OpenRequest,
  { nodeName, allowNodePorts = [] }: TargetCheckOptions,
): Refusal | undefined {
  if (protocol === 'tcp' && allowNodePorts.includes(port)) return undefined
  const message = `Cannot connect to port ${port} of ${nodeName}: its modules.edgeTunnel.allowNodePorts does not list it`
  return { reason: 'node-port', error: new DialError('forbidden', message) }
}

/** Waits until a snapshot has the target, for at most `holdMs`. */
async function isServed(catalog: Catalog, request: OpenRequest, holdMs: number, signal: AbortSignal): Promise<boolean> {
  const serves = (snapshot: Snapshot) => snapshot.servicePortOfTarget(request) !== undefined
  if (serves(catalog.current)) return true
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const giveUp = () => resolve(false)
  const timer = setTimeout(giveUp, holdMs)
  signal.addEventListener('abort', giveUp, { once: true })
  using _subscription = catalog.subscribe((snapshot) => {
    if (serves(snapshot)) resolve(true)
  })
  const served = await promise
  clearTimeout(timer)
  signal.removeEventListener('abort', giveUp)
  return served
}

function isForbiddenAddress(address: string, forbidden: readonly Ipv4Network[]): boolean {
  const value = ipv4ToNumber(address)
  return value === undefined ? isForbiddenIpv6(address) : forbidden.some((network) => holdsIpv4(network, value))
}

/** Everything outside 2000::/3 and fc00::/7: unspecified, loopback, IPv4 in disguise, link-local, multicast. */
function isForbiddenIpv6(address: string): boolean {
  const first = /^([0-9a-f]{1,4}):/i.exec(address)?.[1]
  const head = Number.parseInt(first ?? '0', 16)
  const isGlobal = head >= 0x2000 && head <= 0x3fff
  const isUniqueLocal = head >= 0xfc00 && head <= 0xfdff
  // 6to4 and NAT64 carry an IPv4 address inside, which our own rules would not see.
  const carriesIpv4 = head === 0x2002 || address.toLowerCase().startsWith('64:ff9b:')
  return carriesIpv4 || !(isGlobal || isUniqueLocal)
}

function parseNetwork(text: string): Ipv4Network {
  const network = parseIpv4Network(text)
  if (network === undefined) throw new Error(`Cannot use ${text} as a forbidden network: expected a.b.c.d/n`)
  return network
}
