import { setImmediate as turn } from 'node:timers/promises'
import type { DestinationRule, HttpRule } from '../../model/index.ts'
import { type ByteStream, createMemoryStreamPair, DialError, type Dialer } from '../../net/index.ts'
import { ConnectionPool } from '../backends/connection-pool.ts'
import { Destinations } from '../backends/destinations.ts'
import { Http1ServerConnection } from '../http/http1-server.ts'
import { buildRouteTable } from '../routing/build-route-table.ts'
import type { HttpHosts } from '../routing/route-table.ts'
import { sampleCatalog, sampleGateway, sampleService, sampleSlice, sampleVirtualService } from '../samples.ts'
import { createRequestHandler, type RequestRecord } from './request-handler.ts'

/** A backend: takes each connection that is made to it. */
export type SampleBackend = (stream: ByteStream) => void

/** What tests ask requests for. */
export interface SampleSiteOptions {
  readonly http: readonly HttpRule[]
  /** Backends of Service `web` by address; one that is undefined refuses connections. */
  readonly backends?: Readonly<Record<string, SampleBackend | undefined>>
  readonly rules?: readonly DestinationRule[]
  readonly dialTimeoutMs?: number
}

/** A gateway's requests in memory: clients, rules, backends, and no network. Disposal ends everything. */
export class SampleSite implements Disposable {
  readonly records: RequestRecord[] = []
  readonly dialled: string[] = []
  readonly pool: ConnectionPool
  readonly #options: SampleSiteOptions
  readonly #open: ByteStream[] = []
  readonly #handle: ReturnType<typeof createRequestHandler>

  constructor(options: SampleSiteOptions) {
    this.#options = options
    const { http, backends = {}, rules = [], dialTimeoutMs = 1_000 } = options
    const slice = sampleSlice('web', ...Object.keys(backends))
    const catalog = sampleCatalog([sampleService('web')], [slice], { rules })
    this.pool = new ConnectionPool({ dialer: this.#dialer(), nowMs: () => performance.now() })
    const ring = { partitionCount: 100, replicationFactor: 10, load: 1.25 }
    const surroundings = { current: () => catalog.current, nodeName: 'edge', clusterDomain: 'cluster.local', ring }
    this.#handle = createRequestHandler(
      { hosts: () => hostsOf(http), isServedElsewhere: (host) => host === 'elsewhere.test' },
      {
        destinations: new Destinations(surroundings),
        pool: this.pool,
        habits: { forwardedHeader: false, trustForwardedHeaders: false },
        random: () => 0.5,
        nowMs: () => performance.now(),
        dialTimeoutMs,
        onDone: (record) => this.records.push(record),
      },
    )
  }

  /** A connection of a client, and what it has received. */
  connect(): { readonly client: ByteStream; received(): string } {
    const [near, far] = this.#pair()
    let text = ''
    far.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
    })
    new Http1ServerConnection(near, {
      client: { address: '192.0.2.1', port: 1, localAddress: '10.0.0.1', localPort: 80, isTls: false },
      limits: { maxHeadBytes: 65_536, headTimeoutMs: 60_000, bodyTimeoutMs: 60_000, idleTimeoutMs: 60_000 },
      onExchange: this.#handle,
      onRefused: () => {},
    })
    return { client: far, received: () => text }
  }

  /** What comes back for these bytes until so many requests are done. */
  async ask(bytes: string, requests = 1): Promise<string> {
    const { client, received } = this.connect()
    const before = this.records.length
    client.write(Buffer.from(bytes, 'latin1'))
    await until(() => this.records.length >= before + requests)
    await until(() => received() !== '')
    return received()
  }

  [Symbol.dispose](): void {
    this.pool[Symbol.dispose]()
    for (const stream of this.#open) stream.destroy()
  }

  #dialer(): Dialer {
    return {
      dial: async ({ address, port }, signal) => {
        this.dialled.push(address)
        const backend = this.#options.backends?.[address]
        if (backend === undefined) throw new DialError('refused', `connect ECONNREFUSED ${address}:${port}`)
        await turn()
        signal.throwIfAborted()
        const [near, far] = this.#pair()
        backend(far)
        return near
      },
    }
  }

  #pair(): [ByteStream, ByteStream] {
    const pair = createMemoryStreamPair()
    for (const stream of pair) {
      stream.on('error', () => {})
      this.#open.push(stream)
    }
    return pair
  }
}

function hostsOf(http: readonly HttpRule[]): HttpHosts {
  const virtualServices = [sampleVirtualService({ http: [...http] })]
  const [plan] = buildRouteTable({ gateways: [sampleGateway()], virtualServices, labels: {} }).listeners
  if (plan?.kind !== 'http') throw new Error('the sample listens for something else')
  return plan.hosts
}

/** A backend that answers each head as it is told; undefined answers nothing. */
export function answering(answer: (request: string, stream: ByteStream) => string | undefined): SampleBackend {
  return (stream) => {
    stream.on('data', (chunk: Buffer) => {
      const text = answer(chunk.toString('latin1'), stream)
      if (text !== undefined && !stream.destroyed) stream.write(Buffer.from(text, 'latin1'))
    })
    stream.on('end', () => stream.end())
  }
}

/** A backend that says who it is. */
export function named(name: string): SampleBackend {
  return answering(() => `HTTP/1.1 200 OK\r\nx-backend: ${name}\r\ncontent-length: 2\r\n\r\nok`)
}

/** Lets what is under way in memory go on until something holds; throws when it never does. */
export async function until(holds: () => boolean): Promise<void> {
  const startedAt = performance.now()
  while (!holds()) {
    if (performance.now() - startedAt > 10_000) throw new Error('it does not come to that')
    await turn()
  }
}
