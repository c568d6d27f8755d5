/** A router that opens ports when it is asked by PCP or NAT-PMP, with rules of its own network namespace; see index.ts. */
import { execFileSync } from 'node:child_process'
import { createSocket, type RemoteInfo } from 'node:dgram'
import process from 'node:process'

/** What it speaks, and where. */
interface PortControlSettings {
  readonly address: string
  readonly port: number
  readonly protocol: 'PCP' | 'NAT-PMP'
  /** First external port that it gives; it never gives the one that is asked for. */
  readonly firstPort: number
}

const settings: PortControlSettings = JSON.parse(process.argv[2] ?? '')
const mappings = new Map<string, number>()
let nextPort = settings.firstPort

nft('add table inet mapped; add chain inet mapped pre { type nat hook prerouting priority dstnat; }')
nft('insert rule inet router forward ct status dnat accept')

const socket = createSocket('udp4', (message, from) => {
  const answer = message[0] === 2 ? answerPcp(message, from) : answerNatPmp(message, from)
  if (answer !== undefined) socket.send(answer, from.port, from.address)
})
socket.bind(settings.port, settings.address, () => console.log(`listening on ${settings.address}:${settings.port}`))

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
