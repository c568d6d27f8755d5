import assert from 'node:assert/strict'
import {
  type DecodedPacket,
  decode,
  encode,
  type Packet,
  type Answer as PacketAnswer,
  type RecordType,
} from 'dns-packet'
import type { Catalog } from '../catalog/index.ts'
import { exchangeDatagram, exchangeMessage, openDatagramSocket, startMessageServer } from '../net/index.ts'
import { createMetrics, type Metrics, silentLogger } from '../observability/index.ts'
import { createSampleCluster } from './cluster.fixture.ts'
import { dnsSchema } from './config.ts'
import { type DnsServer, startDns } from './index.ts'

/** Where servers and resolvers of tests listen. */
export const address = '127.0.0.1'
/** An OPT record without options. */
export const edns: PacketAnswer = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: 1232,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
}

/** What differs from a DNS server for the sample cluster. */
export interface StartOptions {
  readonly upstreams?: readonly string[]
  readonly catalog?: Catalog
  readonly metrics?: Metrics
  readonly ownAddresses?: () => readonly string[]
  readonly port?: number
  /** More of `modules.edgeDNS`. */
  readonly config?: object
}

/** Starts a server whose upstreams are given 300 ms. */
export function start({
  upstreams = ['127.0.0.1:1'],
  catalog = createSampleCluster(),
  metrics = createMetrics(),
  port = 0,
  ownAddresses = () => [],
  config: more = {},
}: StartOptions = {}): Promise<DnsServer> {
  const config = dnsSchema.parse({ upstreamServers: upstreams, ...more })
  return startDns({
    config,
    address,
    port,
    catalog,
    metrics,
    logger: silentLogger,
    ownAddresses,
    upstreamTimeoutMs: 300,
  })
}

let lastId = 0

/** Asks as a client would; the id of the answer is checked here. */
export async function ask(
  server: DnsServer,
  name: string,
  {
    type = 'A',
    tcp = false,
    timeoutMs = 2500,
    ...packet
  }: { type?: RecordType; tcp?: boolean; timeoutMs?: number } & Omit<Packet, 'type'> = {},
): Promise<DecodedPacket & { readonly rcode: string }> {
  const id = ++lastId
  const message = encode({ type: 'query', id, flags: 0x100, questions: [{ type, name }], ...packet })
  const exchange = tcp ? exchangeMessage : exchangeDatagram
  const options = { timeoutMs, signal: new AbortController().signal, accept: () => true }
  const answer = decode(await exchange({ address, port: server.status().port }, message, options))
  assert.equal(answer.id, id)
  return answer as DecodedPacket & { readonly rcode: string }
}

/** The data of the answers. */
export const dataOf = ({ answers = [] }: DecodedPacket) =>
  answers.map((record) => ('data' in record ? record.data : undefined))

/** A resolver of the wide world that answers every A question, or as `respond` says; undefined is silence. */
export async function startUpstream(
  respond: (name: string, tcp: boolean, query: DecodedPacket) => Partial<Packet> | undefined = () => ({}),
  isProbed = true,
) {
  await using starting = new AsyncDisposableStack()
  const seen: string[] = []
  const answer = (message: Buffer, tcp: boolean): Buffer | undefined => {
    const query = decode(message)
    const [question] = query.questions ?? []
    assert.ok(question)
    // Whether a resolver is there is asked beside what clients want to know.
    if (question.name.endsWith('.edgemesh-loop-probe.internal')) return isProbed ? probeAnswerOf(query) : undefined
    seen.push(`${tcp ? 'tcp' : 'udp'} ${question.name} ${question.type}`)
    const reply = respond(question.name, tcp, query)
    if (reply === undefined) return undefined
    const answers: PacketAnswer[] = [{ type: 'A', name: question.name, ttl: 60, data: '192.0.2.80' }]
    return encode({ type: 'response', id: query.id ?? 0, flags: 0x180, questions: [question], answers, ...reply })
  }
  const udp = starting.use(await openUpstreamSockets(answer))
  const running = starting.move()
  return { seen, name: `${address}:${udp.port}`, port: udp.port, [Symbol.asyncDispose]: () => running.disposeAsync() }
}

function probeAnswerOf({ id = 0, questions = [] }: DecodedPacket): Buffer {
  return encode({ type: 'response', id, flags: 0x183, questions })
}

/** UDP and TCP on one port that the kernel chooses, which for the second may be taken. */
async function openUpstreamSockets(
  answer: (message: Buffer, tcp: boolean) => Buffer | undefined,
  attempts = 5,
): Promise<AsyncDisposable & { readonly port: number }> {
  const onMessage = (message: Buffer) => answer(message, true)
  const tcp = await startMessageServer({ address, port: 0, idleTimeoutMs: 1000, maxConnections: 10, onMessage })
  try {
    const udp = await openDatagramSocket({
      address,
      port: tcp.port,
      onMessage(message, from) {
        const reply = answer(message, false)
        if (reply !== undefined) udp.send(reply, from)
      },
      onError: assert.ifError,
    })
    const close = async () => void (await Promise.all([udp[Symbol.asyncDispose](), tcp[Symbol.asyncDispose]()]))
    return { port: tcp.port, [Symbol.asyncDispose]: close }
  } catch (error) {
    await tcp[Symbol.asyncDispose]()
    if (attempts === 1) throw error
    return openUpstreamSockets(answer, attempts - 1)
  }
}
