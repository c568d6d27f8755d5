/**
 * The resolver of the lab's internet: `dns.ts ADDRESS RECORDS`, with RECORDS as JSON of name to IPv4 address. Over UDP
 * and TCP; every other name does not exist. `big.upstream.example` TXT is too long for UDP and comes whole over TCP.
 */
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import process from 'node:process'
import {
  type Answer,
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  type Packet,
  streamEncode,
  TRUNCATED_RESPONSE,
} from 'dns-packet'

const [address = '', records = '{}'] = process.argv.slice(2)
const addressOf: Record<string, string> = JSON.parse(records)
const nameError = 3
const bigText = Array.from({ length: 12 }, (_, index) => `${index}`.padEnd(250, '.'))

function answerTo(query: Packet, limitBytes: number): Packet {
  const [question] = query.questions ?? []
  const name = question?.name.toLowerCase() ?? ''
  const isBig = name === 'big.upstream.example'
  const found = addressOf[name]
  const answers: Answer[] = []
  if (question?.type === 'A' && found !== undefined) answers.push({ type: 'A', name, ttl: 60, data: found })
  if (question?.type === 'TXT' && isBig) answers.push({ type: 'TXT', name, ttl: 60, data: bigText })
  const response: Packet = {
    type: 'response',
    id: query.id ?? 0,
    flags: AUTHORITATIVE_ANSWER | (found !== undefined || isBig ? 0 : nameError),
    questions: query.questions ?? [],
    answers,
  }
  if (encode(response).length <= limitBytes) return response
  return { ...response, flags: AUTHORITATIVE_ANSWER | TRUNCATED_RESPONSE, answers: [] }
}

function decodeOrDrop(message: Buffer): Packet | undefined {
  try {
    return decode(message)
  } catch {
    return undefined
  }
}

const udp = createSocket('udp4', (message, client) => {
  const query = decodeOrDrop(message)
  if (query !== undefined) udp.send(encode(answerTo(query, 512)), client.port, client.address)
})
const tcp = createServer((socket) => {
  socket.on('error', () => {}) // The client is gone.
  let received = Buffer.alloc(0)
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk])
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE()) {
      const end = 2 + received.readUInt16BE()
      const query = decodeOrDrop(received.subarray(2, end))
      if (query !== undefined) socket.write(streamEncode(answerTo(query, 65_535)))
      received = received.subarray(end)
    }
  })
})
udp.bind(53, address, () => tcp.listen(53, address, () => console.log(`listening on ${address}:53`)))
