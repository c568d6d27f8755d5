/** A router that opens ports when it is asked by PCP, NAT-PMP or UPnP, with rules of its own network namespace; see index.ts. */
import { execFileSync } from 'node:child_process'
import { createSocket, type RemoteInfo } from 'node:dgram'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { networkInterfaces } from 'node:os'
import process from 'node:process'

/** What it speaks, and where. */
interface PortControlSettings {
  readonly address: string
  readonly port: number
  readonly protocol: 'PCP' | 'NAT-PMP' | 'UPnP'
  /** First external port that it gives: by PCP and NAT-PMP never the one that is asked for, by UPnP none below. */
  readonly firstPort: number
}

const settings: PortControlSettings = JSON.parse(process.argv[2] ?? '')
const mappings = new Map<string, number>()
let nextPort = settings.firstPort
const httpPort = 5000
const wanService = 'urn:schemas-upnp-org:service:WANIPConnection:1'

nft('add table inet mapped; add chain inet mapped pre { type nat hook prerouting priority dstnat; }')
nft('insert rule inet router forward ct status dnat accept')

const socket = createSocket('udp4', (message, from) => {
  const answer = answerTo(message, from)
  if (answer !== undefined) socket.send(answer, from.port, from.address)
})
socket.bind(settings.port, settings.address, () => console.log(`listening on ${settings.address}:${settings.port}`))
if (settings.protocol === 'UPnP') createServer(answerHttp).listen(httpPort, settings.address)

function answerTo(message: Buffer, from: RemoteInfo): Buffer | undefined {
  if (settings.protocol === 'UPnP') return answerSearch(message, from)
  return message[0] === 2 ? answerPcp(message, from) : answerNatPmp(message, from)
}

function answerSearch(message: Buffer, from: RemoteInfo): Buffer | undefined {
  const [, st] = /^ST: (.*:InternetGatewayDevice:1)\r$/m.exec(String(message)) ?? []
  const lan = from.address.slice(0, from.address.lastIndexOf('.') + 1)
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ address }) => address.startsWith(lan))
  const location = `http://${own?.address}:${httpPort}/device.xml`
  const fields = ['HTTP/1.1 200 OK', 'CACHE-CONTROL: max-age=120', `ST: ${st}`, 'EXT:', `LOCATION: ${location}`]
  return st === undefined ? undefined : Buffer.from([...fields, '', ''].join('\r\n'))
}

/** Describes itself, and does AddPortMapping and DeletePortMapping; like many it takes the asked port only if it is free. */
function answerHttp(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'GET') {
    const service = `<serviceType>${wanService}</serviceType><controlURL>/control</controlURL>`
    response.end(`<root xmlns="urn:schemas-upnp-org:device-1-0"><device><service>${service}</service></device></root>`)
    return
  }
  const pieces: Buffer[] = []
  request.on('data', (piece: Buffer) => pieces.push(piece))
  request.on('end', () => {
    const xml = Buffer.concat(pieces).toString()
    const fieldOf = (name: string) => new RegExp(`<${name}>(.*?)</${name}>`).exec(xml)?.[1]
    const port = Number(fieldOf('NewExternalPort'))
    if (request.headers['soapaction'] === `"${wanService}#DeletePortMapping"`) {
      const [target = ''] = [...mappings].find(([, mapped]) => mapped === port) ?? []
      map(target, 0)
    } else if (port < settings.firstPort) {
      response.statusCode = 500
      response.end('<UPnPError><errorCode>718</errorCode></UPnPError>')
      return
    } else {
      nextPort = port
      map(`${fieldOf('NewInternalClient')}:${fieldOf('NewInternalPort')}`, 3600)
    }
    response.end('<done/>')
  })
}

function answerPcp(message: Buffer, { address }: RemoteInfo): Buffer | undefined {
  // RFC 6886 section 3.5: a router that knows version 0 alone says so in its own format.
  if (settings.protocol === 'NAT-PMP') return Buffer.from([0, 128 + (message[1] ?? 0), 0, 1, 0, 0, 0, 1])
  if (message.length < 60 || message[1] !== 1 || message[36] !== 6) return undefined
  const answer = Buffer.from(message)
  answer[1] = 129
  answer.fill(0, 8, 24)
  answer.writeUInt32BE(1, 8)
  const port = map(`${address}:${message.readUInt16BE(40)}`, message.readUInt32BE(4))
  answer.writeUInt16BE(port, 42)
  return answer
}

function answerNatPmp(message: Buffer, { address }: RemoteInfo): Buffer | undefined {
  if (settings.protocol === 'PCP' || message.length < 12 || message[1] !== 2) return undefined
  const answer = Buffer.alloc(16)
  answer[1] = 130
  answer.writeUInt32BE(1, 4)
  answer.writeUInt16BE(message.readUInt16BE(4), 8)
  answer.writeUInt16BE(map(`${address}:${message.readUInt16BE(4)}`, message.readUInt32BE(8)), 10)
  answer.writeUInt32BE(message.readUInt32BE(8), 12)
  return answer
}

/** Adds, keeps or removes a mapping, and returns its external port. */
function map(target: string, lifetimeSeconds: number): number {
  const known = mappings.get(target)
  if (lifetimeSeconds === 0) {
    mappings.delete(target)
    console.log(`removed ${target}`)
  } else if (known === undefined) {
    mappings.set(target, nextPort)
    console.log(`mapped ${nextPort} to ${target}`)
    nextPort += 1
  }
  const rules = [...mappings].map(
    ([to, port]) => `add rule inet mapped pre iifname wan0 tcp dport ${port} dnat ip to ${to}`,
  )
  nft(['flush chain inet mapped pre', ...rules].join('; '))
  return mappings.get(target) ?? known ?? 0
}

function nft(commands: string): void {
  execFileSync('nft', [commands])
}
