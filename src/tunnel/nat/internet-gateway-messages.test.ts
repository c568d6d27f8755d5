import assert from 'node:assert/strict'
import { test } from 'node:test'
import { actionOf, controlPointOf, encodeCall, locationOf, refusalOf } from './internet-gateway-messages.ts'

const ipService = 'urn:schemas-upnp-org:service:WANIPConnection:1'
const location = new URL('http://192.168.1.1:5000/root.xml')

const found = (...fields: string[]) => Buffer.from(['HTTP/1.1 200 OK', ...fields, '', ''].join('\r\n'))
const st = 'ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1'

function service(type: string, control: string): string {
  return `<service><serviceType>${type}</serviceType><serviceId>x</serviceId><controlURL>${control}</controlURL></service>`
}

const description = (inner: string, base = '') =>
  `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">${base}<device>
     <friendlyName>Router &amp; more</friendlyName>${inner}</device></root>`

test('an answer to the search says where the description is, in fields of any case and order', () => {
  assert.equal(locationOf(found('LOCATION: http://192.168.1.1:5000/root.xml', st))?.href, location.href)
  const newer = 'st:urn:schemas-upnp-org:device:InternetGatewayDevice:2'
  assert.equal(locationOf(found(newer, 'Location:http://192.168.1.1/x'))?.href, 'http://192.168.1.1/x')
})

for (const [what, answer] of [
  ['without a place', found(st)],
  ['with a place that is no URL', found(st, 'LOCATION: over there')],
  ['of another device', found('ST: urn:schemas-upnp-org:device:MediaServer:1', 'LOCATION: http://192.168.1.9/')],
  ['that is a refusal', Buffer.from(`HTTP/1.1 404 Not Found\r\n${st}\r\nLOCATION: http://192.168.1.1/\r\n\r\n`)],
  ['that is a search itself', Buffer.from(`M-SEARCH * HTTP/1.1\r\n${st}\r\nLOCATION: http://192.168.1.1/\r\n\r\n`)],
  ['of noise', Buffer.from([0, 255, 13, 10])],
] as const) {
  test(`an answer ${what} is none`, () => assert.equal(locationOf(answer), undefined))
}

test('the control point is that of the service which maps ports, not of its neighbours', () => {
  const xml = description(
    service('urn:schemas-upnp-org:service:Layer3Forwarding:1', '/l3') +
      service('urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1', '/common') +
      service(ipService, '/ctl/IPConn'),
  )
  const control = controlPointOf(xml, location)
  assert.deepEqual([control?.serviceType, control?.url.href], [ipService, 'http://192.168.1.1:5000/ctl/IPConn'])
})

test('the newer service goes first, and one for PPP will do', () => {
  const newer = ipService.replace(':1', ':2')
  const ppp = 'urn:schemas-upnp-org:service:WANPPPConnection:1'
  const typeOf = (...types: string[]) =>
    controlPointOf(description(types.map((type) => service(type, '/c')).join('')), location)?.serviceType
  assert.equal(typeOf(ipService, newer, ppp), newer)
  assert.equal(typeOf(ppp, ipService), ipService)
  assert.equal(typeOf(ppp), ppp)
  assert.equal(typeOf('urn:schemas-upnp-org:service:ContentDirectory:1'), undefined)
})

test('addresses are relative to the base that the description names', () => {
  const base = '<URLBase>http://192.168.1.1:4444/base/</URLBase>'
  const urlOf = (control: string) => controlPointOf(description(service(ipService, control), base), location)?.url.href
  assert.equal(urlOf('ctl'), 'http://192.168.1.1:4444/base/ctl')
  assert.equal(urlOf('http://10.0.0.9/ctl'), 'http://10.0.0.9/ctl')
})

test('prefixes, comments and sections of XML do not hide what is there', () => {
  const odd = `<d:root xmlns:d="x"><d:device><!-- <serviceType>no</serviceType> -->
    <d:serviceType> ${ipService} </d:serviceType><d:controlURL><![CDATA[]]>/c?a=1&amp;b=2</d:controlURL></d:device></d:root>`
  assert.equal(controlPointOf(odd, location)?.url.href, 'http://192.168.1.1:5000/c?a=1&b=2')
  for (const text of ['', 'not XML', '<a><b>', '<serviceType/>', '<x:a/>'])
    assert.equal(controlPointOf(text, location), undefined)
})

test('entities are not expanded, so that a few bytes stay a few bytes', () => {
  const bomb = `<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><r>${service(ipService, '/&b;')}</r>`
  assert.ok((controlPointOf(bomb, location)?.url.href.length ?? 0) < 50)
})

const request = { internalPort: 20006, externalPort: 41000, lifetimeSeconds: 3600 }
const textOf = (xml: string, name: string) => new RegExp(`<${name}>(.*?)</${name}>`).exec(xml)?.[1]

test('a mapping is asked for with all that WANIPConnection wants, in its order', () => {
  const xml = encodeCall(ipService, actionOf(request, '192.168.1.11', false))
  assert.ok(xml.includes(`<u:AddPortMapping xmlns:u="${ipService}"><NewRemoteHost></NewRemoteHost><NewExternalPort>`))
  const values = {
    NewRemoteHost: '',
    NewExternalPort: '41000',
    NewProtocol: 'TCP',
    NewInternalPort: '20006',
    NewInternalClient: '192.168.1.11',
    NewEnabled: '1',
    NewPortMappingDescription: 'edgemesh',
    NewLeaseDuration: '3600',
  }
  for (const [name, value] of Object.entries(values)) assert.equal(textOf(xml, name), value, name)
  assert.deepEqual(
    [...xml.matchAll(/<(New\w+)>/g)].map(([, name]) => name),
    Object.keys(values),
  )
  assert.equal(textOf(encodeCall(ipService, actionOf(request, '192.168.1.11', true)), 'NewLeaseDuration'), '0')
})

test('a lifetime of nothing takes the mapping back', () => {
  const { name, values } = actionOf({ ...request, lifetimeSeconds: 0 }, '192.168.1.11', true)
  assert.equal(name, 'DeletePortMapping')
  assert.deepEqual(Object.fromEntries(values), { NewRemoteHost: '', NewExternalPort: '41000', NewProtocol: 'TCP' })
})

test('a refusal has the number of UPnP, or else that of HTTP', () => {
  const fault = (code: string) =>
    `<s:Envelope xmlns:s="s"><s:Body><s:Fault><detail><UPnPError><errorCode>${code}</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>`
  assert.equal(refusalOf(200, ''), undefined)
  assert.equal(refusalOf(500, fault('718'))?.result, 718)
  assert.match(refusalOf(500, fault('718'))?.message ?? '', /UPnP: the port is in use/)
  assert.match(refusalOf(500, fault('606'))?.message ?? '', /not authorised/)
  assert.match(refusalOf(404, 'gone')?.message ?? '', /result 404/)
})
