import { fetchText, openDatagramSocket, timeoutError } from '../../net/index.ts'
import { abortable, TimeLimit } from '../../runtime/index.ts'
import type { Router } from './ask-router.ts'
import {
  actionOf,
  type ControlPoint,
  controlPointOf,
  encodeCall,
  locationOf,
  refusalOf,
  searchMessage,
} from './internet-gateway-messages.ts'
import { type MappingGrant, MappingRefusedError, type MappingRequest } from './port-control.ts'

/** How routers are asked; a port, a group and a patience other than those of UPnP are for tests. */
export interface InternetGatewayOptions {
  /** Of this node, in the network of the gateway. */
  readonly ownAddress: string
  /** Default 1900. */
  readonly searchPort?: number
  /** Many routers listen to their own address as well as to the group of UPnP, some to the group alone. */
  readonly searchGroup?: string
  /** How long an answer to each of two searches is waited for; default 750. */
  readonly searchEveryMs?: number
}

const upnpPort = 1900
const upnpGroup = '239.255.255.250'
const searches = 2
const usualSearchEveryMs = 750
/** Descriptions and calls of slow routers take seconds. */
const callMs = 8000
const descriptionBytes = 256 * 1024
/** The port that was asked for may be somebody else's. */
const ports = 4
const portTaken = 718
const onlyPermanent = 725

/**
 * A router that speaks UPnP (Internet Gateway Device, WANIPConnection and WANPPPConnection). Only what answers from the
 * gateway's own address, and describes itself there, is asked.
 */
export function createInternetGateway(gateway: string, options: InternetGatewayOptions): Router {
  let control: ControlPoint | undefined
  let isPermanent = false
  const call = async (at: ControlPoint, request: MappingRequest, signal: AbortSignal) => {
    const action = actionOf(request, options.ownAddress, isPermanent)
    const { status, text } = await fetchText({
      url: at.url,
      method: 'POST',
      headers: { 'content-type': 'text/xml; charset="utf-8"', soapaction: `"${at.serviceType}#${action.name}"` },
      body: encodeCall(at.serviceType, action),
      source: options.ownAddress,
      maxBytes: descriptionBytes,
      signal,
    })
    const refusal = refusalOf(status, text)
    if (refusal !== undefined) throw refusal
  }
  const askOnce = async (request: MappingRequest, signal: AbortSignal): Promise<MappingGrant> => {
    using limit = new TimeLimit(callMs, signal)
    control ??= await findControlPoint(gateway, options, limit.signal)
    try {
      await call(control, request, limit.signal)
    } catch (error) {
      if (resultOf(error) !== onlyPermanent || isPermanent) {
        // It may have been restarted, and take requests elsewhere now.
        if (resultOf(error) !== portTaken) control = undefined
        throw error
      }
      isPermanent = true
      await call(control, request, limit.signal)
    }
    return { externalPort: request.externalPort, lifetimeSeconds: request.lifetimeSeconds }
  }
  return {
    protocol: 'UPnP',
    async ask(request, signal) {
      for (let attempt = 0; ; attempt++) {
        const externalPort = otherPort(request.externalPort, attempt)
        try {
          return await askOnce({ ...request, externalPort }, signal)
        } catch (error) {
          if (resultOf(error) !== portTaken || attempt === ports - 1) throw error
        }
      }
    },
  }
}

/** The port that is wished for first, then others far from it: a neighbour's agent may look from the next one on. */
function otherPort(port: number, attempt: number): number {
  return attempt === 0 ? port : 1024 + ((port * 31 + attempt * 7919) % 64_000)
}

function resultOf(error: unknown): number | undefined {
  return error instanceof MappingRefusedError ? error.result : undefined
}

async function findControlPoint(
  gateway: string,
  options: InternetGatewayOptions,
  signal: AbortSignal,
): Promise<ControlPoint> {
  const location = await search(gateway, options, signal)
  const isOfGateway = (url: URL) => url.protocol === 'http:' && url.hostname === gateway
  if (!isOfGateway(location)) throw new Error(`the router ${gateway} describes itself elsewhere, at ${location.href}`)
  const { status, text } = await fetchText({
    url: location,
    source: options.ownAddress,
    maxBytes: descriptionBytes,
    signal,
  })
  const control = status === 200 ? controlPointOf(text, location) : undefined
  if (control === undefined) throw new Error(`the router ${gateway} speaks UPnP, but maps no ports`)
  if (!isOfGateway(control.url)) throw new Error(`the router ${gateway} wants to be asked at ${control.url.href}`)
  return control
}

/** Rejects with ETIMEDOUT when the gateway answers none of the searches. */
async function search(gateway: string, options: InternetGatewayOptions, signal: AbortSignal): Promise<URL> {
  const { searchPort: port = upnpPort, searchGroup: group = upnpGroup, ownAddress } = options
  const { searchEveryMs = usualSearchEveryMs } = options
  const found = Promise.withResolvers<URL>()
  await using socket = await openDatagramSocket({
    address: ownAddress,
    port: 0,
    onMessage(message, from) {
      const location = from.address === gateway ? locationOf(message) : undefined
      if (location !== undefined) found.resolve(location)
    },
    onError() {},
  })
  for (let turn = 0; turn < searches; turn++) {
    for (const address of [gateway, group]) socket.send(searchMessage, { address, port })
    using limit = new TimeLimit(searchEveryMs, signal)
    try {
      return await abortable(found.promise, limit.signal)
    } catch {
      signal.throwIfAborted()
    }
  }
  throw timeoutError({ address: gateway, port }, searches * searchEveryMs)
}
