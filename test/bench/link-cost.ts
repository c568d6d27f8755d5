/**
 * What links cost in CPU, with and without the means to resume flows: `node test/bench/link-cost.ts [rounds]`. Both ends
 * live in this process; the kinds take turns, so that what else the machine does falls on both.
 */
import { once } from 'node:events'
import process from 'node:process'
import { finished } from 'node:stream/promises'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { type ByteStream, connectTcp, startTcpListener } from '../../src/net/index.ts'
import { createMetrics, silentLogger } from '../../src/observability/index.ts'
import { TaskGroup } from '../../src/runtime/index.ts'
import type { IncomingFlow } from '../../src/tunnel/flows/incoming-flow.ts'
import { LinkTable } from '../../src/tunnel/links/link-table.ts'
import { renderTable } from './support/usage.ts'

const rounds = Number(process.argv[2] ?? '6')
const gigabyte = 1e9
const signal = AbortSignal.timeout(600_000)
const request = { protocol: 'tcp', nodeName: 'x', address: '10.1.1.1', port: 80 } as const

async function createEnd(name: string, resumeMs: number, onIncoming: (flow: IncomingFlow) => void) {
  const privateKey = await generateKeyPair('Ed25519')
  const peerId = peerIdFromPrivateKey(privateKey).toString()
  const table = new LinkTable({
    credentials: { identity: { privateKey, peerId }, keyRing: undefined },
    self: { name, role: 'agent', sequence: 1 },
    tasks: new TaskGroup(() => {}),
    nameConflictOf: () => undefined,
    onIncoming,
    onWant() {},
    onChange() {},
    onStranded() {},
    resumeMs,
    logger: silentLogger,
    metrics: createMetrics(),
  })
  return { table, peerId }
}

async function createPair(resumeMs: number) {
  let serve: (stream: ByteStream) => void = () => {}
  const left = await createEnd('left', resumeMs, () => {})
  const right = await createEnd('right', resumeMs, (flow) => void flow.accept(signal).then((stream) => serve(stream)))
  const onConnection = (socket: Parameters<LinkTable['accept']>[0]['socket']) =>
    right.table.accept({ socket, path: 'direct' })
  const listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection })
  const socket = await connectTcp('127.0.0.1', listener.port, signal)
  await left.table.dial({ socket, path: 'direct' }, right.peerId, 'shared', signal)
  const open = async () => {
    const flow = await left.table.peer(right.peerId)?.open(request, signal)
    if (flow === undefined) throw new Error('no link')
    return flow
  }
  return {
    open,
    serve(next: typeof serve) {
      serve = next
    },
    async [Symbol.asyncDispose]() {
      await left.table[Symbol.asyncDispose]()
      await right.table[Symbol.asyncDispose]()
      await listener[Symbol.asyncDispose]()
    },
  }
}

type Pair = Awaited<ReturnType<typeof createPair>>

/** As a socket gives them: buffers of their own. */
async function bulk(pair: Pair): Promise<void> {
  pair.serve((stream) => stream.resume().on('end', () => stream.end()))
  const flow = await pair.open()
  for (let sent = 0; sent < gigabyte; sent += 65_536) {
    if (!flow.write(Buffer.allocUnsafeSlow(65_536))) await once(flow, 'drain')
  }
  flow.end()
  await finished(flow.resume())
}

async function requests(pair: Pair): Promise<void> {
  pair.serve((stream) => stream.on('data', () => stream.write(Buffer.alloc(100))).on('end', () => stream.end()))
  const one = async () => {
    const flow = await pair.open()
    for (let count = 0; count < 2500; count++) {
      flow.write(Buffer.alloc(100))
      await once(flow, 'data')
    }
    flow.end()
    await finished(flow.resume())
  }
  await Promise.all(Array.from({ length: 16 }, one))
}

async function connections(pair: Pair): Promise<void> {
  pair.serve((stream) => stream.on('data', () => stream.end(Buffer.alloc(100))))
  const one = async () => {
    for (let count = 0; count < 500; count++) {
      const flow = await pair.open()
      flow.end(Buffer.alloc(100))
      await finished(flow.resume())
    }
  }
  await Promise.all(Array.from({ length: 16 }, one))
}

const loads = { '1 GB, CPU s': bulk, '40,000 requests, CPU s': requests, '8,000 connections, CPU s': connections }
const rows = [['load', 'without', 'with', 'ratio']]
for (const [name, load] of Object.entries(loads)) {
  const seconds: number[][] = [[], []]
  for (let round = 0; round < 2 * rounds; round++) {
    await using pair = await createPair(round % 2 === 0 ? 0 : 30_000)
    const before = process.cpuUsage()
    await load(pair)
    const { user, system } = process.cpuUsage(before)
    // The first round of each pays for the compiler.
    if (round > 1) seconds[round % 2]?.push((user + system) / 1e6)
  }
  const [without = 0, withIt = 0] = seconds.map((values) => values.sort((a, b) => a - b)[values.length >> 1] ?? 0)
  rows.push([name, without.toFixed(2), withIt.toFixed(2), (withIt / without).toFixed(2)])
}
process.stdout.write(`${renderTable(rows)}\n`)
process.exit(0)
