import * as xmldom from '@xmldom/xmldom'
import { MappingRefusedError, type MappingRequest } from './port-control.ts'

/** Types of nodes (DOM section 4.4). */
const textNode = 3
const cdataNode = 4

/** What is searched for; devices of version 2 answer as well. */
const deviceType = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1'

/** Services that map ports, likeliest first. */
const serviceTypes = [
  'urn:schemas-upnp-org:service:WANIPConnection:2',
  'urn:schemas-upnp-org:service:WANIPConnection:1',
  'urn:schemas-upnp-org:service:WANPPPConnection:1',
] as const

/** Where a router takes requests. */
export interface ControlPoint {
  readonly serviceType: string
  readonly url: URL
}

/** The question for routers (UPnP Device Architecture 1.1, section 1.3.2). */
export const searchMessage = Buffer.from(
  [
    'M-SEARCH * HTTP/1.1',
    'HOST: 239.255.255.250:1900',
    'MAN: "ssdp:discover"',
    'MX: 1',
    `ST: ${deviceType}`,
    '',
    '',
  ].join('\r\n'),
)

/** Where the router that answered describes itself; undefined for anything but such an answer. */
export function locationOf(answer: Buffer): URL | undefined {
  const [statusLine = '', ...fields] = answer.toString('latin1').split(/\r?\n/)
  if (!/^HTTP\/1\.[01] 200\b/i.test(statusLine)) return undefined
  const fieldOf = (name: string) =>
    fields.find((field) => field.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1)
  if (fieldOf('st')?.includes(':InternetGatewayDevice:') !== true) return undefined
  return URL.parse(fieldOf('location')?.trim() ?? '') ?? undefined
}

/** The service that maps ports, out of the description that was read at `location`; undefined when there is none. */
export function controlPointOf(description: string, location: URL): ControlPoint | undefined {
  const texts = textsOf(description)
  const base = URL.parse(texts.find(({ name }) => name === 'URLBase')?.text ?? '') ?? location
  const controls = texts.flatMap(({ name, text }, index) => {
    if (name !== 'serviceType') return []
    const after = texts.slice(index + 1)
    const next = after.findIndex((entry) => entry.name === 'serviceType')
    const own = next < 0 ? after : after.slice(0, next)
    const url = URL.parse(own.find((entry) => entry.name === 'controlURL')?.text ?? '', base.href)
    return url === null ? [] : [{ serviceType: text, url }]
  })
  return serviceTypes
    .map((type) => controls.find(({ serviceType }) => serviceType === type))
    .find((control) => control !== undefined)
}

/** The call that adds a mapping to this node, or takes it back with a lifetime of 0. */
export function actionOf(
  { internalPort, externalPort, lifetimeSeconds }: MappingRequest,
  ownAddress: string,
  isPermanent: boolean,
): { readonly name: string; readonly values: readonly (readonly [string, string])[] } {
  const key = [
    ['NewRemoteHost', ''],
    ['NewExternalPort', String(externalPort)],
    ['NewProtocol', 'TCP'],
  ] as const
  if (lifetimeSeconds === 0) return { name: 'DeletePortMapping', values: key }
  const values = [
    ...key,
    ['NewInternalPort', String(internalPort)],
    ['NewInternalClient', ownAddress],
    ['NewEnabled', '1'],
    ['NewPortMappingDescription', 'edgemesh'],
    ['NewLeaseDuration', isPermanent ? '0' : String(lifetimeSeconds)],
  ] as const
  return { name: 'AddPortMapping', values }
}

/** A call as SOAP 1.1; the values are ours and need no escaping. */
export function encodeCall(serviceType: string, { name, values }: ReturnType<typeof actionOf>): string {
  const fields = values.map(([field, value]) => `<${field}>${value}</${field}>`).join('')
  const envelope = 'xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
  const encoding = 's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"'
  const call = `<u:${name} xmlns:u="${serviceType}">${fields}</u:${name}>`
  return `<?xml version="1.0"?><s:Envelope ${envelope} ${encoding}><s:Body>${call}</s:Body></s:Envelope>`
}

/** The refusal in the answer to a call; undefined when it was done. */
export function refusalOf(status: number, answer: string): MappingRefusedError | undefined {
  if (status === 200) return undefined
  const code = textsOf(answer).find(({ name }) => name === 'errorCode')?.text
  return new MappingRefusedError('UPnP', code === undefined ? status : Number(code))
}

/** Local names and texts of the elements that hold nothing but text, in their order; none of what is no XML. */
function textsOf(xml: string): { readonly name: string; readonly text: string }[] {
  // Devices are known to send XML that is not quite right; only what makes no sense at all is given up.
  const parser = new xmldom.DOMParser({ onError() {} })
  try {
    const elements = [...parser.parseFromString(xml, 'text/xml').getElementsByTagNameNS('*', '*')]
    return elements
      .filter(({ childNodes }) =>
        [...childNodes].every(({ nodeType }) => nodeType === textNode || nodeType === cdataNode),
      )
      .map(({ localName, textContent }) => ({ name: localName ?? '', text: textContent?.trim() ?? '' }))
      .filter(({ text }) => text !== '')
  } catch {
    return []
  }
}
