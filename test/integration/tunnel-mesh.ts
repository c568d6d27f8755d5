/** A mesh in one process on 127.0.0.1 for tests: a server and agents, each with its own state folder and targets. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Catalog, createCatalog, type ObjectSink } from '../../src/catalog/index.ts'
import type { NamedAddress } from '../../src/linux/index.ts'
import type { Protocol } from '../../src/model/index.ts'
import {
  type ByteStream,
  createDirectDatagramDialer,
  createDirectDialer,
  type DatagramDialer,
  type Dialer,
  type DialTarget,
} from '../../src/net/index.ts'
import {
  createHealth,
  createMetrics,
  type LogFields,
  type Logger,
  type Metrics,
} from '../../src/observability/index.ts'
import { type TunnelConfig, tunnelSchemaOf } from '../../src/tunnel/config.ts'
import { startTunnel, startTunnelServer, type Tunnel, type TunnelServer } from '../../src/tunnel/index.ts'

/** One line of a log. */
export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly fields: LogFields
  readonly message: string
}

/** An agent under test. */
export interface TestAgent extends AsyncDisposable {
  readonly name: string
  readonly tunnel: Tunnel
  readonly catalog: Catalog & ObjectSink
  readonly metrics: Metrics
  readonly log: readonly LogLine[]
  readonly stateDir: string
  /** Makes the target an endpoint of a Service on this agent's node. */
  serve(address: string, port: number, protocol?: Protocol): void
}

/** A server under test. */
export interface TestServer extends AsyncDisposable {
  readonly tunnel: TunnelServer
  readonly port: number
  readonly log: readonly LogLine[]
  readonly stateDir: string
}

/** How an agent differs from the default one, which only a relay can reach. */
export interface AgentOptions {
  readonly config?: Partial<TunnelConfig>
  readonly interfaces?: readonly NamedAddress[]
  readonly stateDir?: string
  /** Where targets really are: the default sends every target to 127.0.0.1 at its port. */
  readonly localDialer?: Dialer
  readonly psk?: string
  readonly env?: Readonly<Record<string, string>>
}

const schema = tunnelSchemaOf(0)

/** Folders and files that go with the test. */
export class TestFolder implements AsyncDisposable {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  static async create(): Promise<TestFolder> {
    return new TestFolder(await mkdtemp(join(tmpdir(), 'edgemesh-tunnel-')))
  }

  async file(name: string, content: string): Promise<string> {
    const path = join(this.path, name)
    await writeFile(path, content)
    return path
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
  }
}

/** Loopback is never a target of the tunnel, so tests name targets in 10.0.0.0/8 and this dials them on 127.0.0.1. */
const loopbackDatagrams: DatagramDialer = {
  dialDatagrams: (target, signal) =>
    createDirectDatagramDialer().dialDatagrams({ ...target, address: '127.0.0.1' }, signal),
}

/** The same for byte streams. */
export const loopbackDialer: Dialer = {
  dial: (target, signal) => createDirectDialer().dial({ ...target, address: '127.0.0.1' }, signal),
}

export async function startTestServer(
  folder: TestFolder,
  options: {
    readonly name?: string
    readonly port?: number
    readonly psk?: string
    readonly config?: Partial<TunnelConfig>
    readonly muxers?: TunnelConfig['muxers']
  } = {},
): Promise<TestServer> {
  const name = options.name ?? 'server'
  const log: LogLine[] = []
  const stateDir = join(folder.path, name)
  const tunnel = await startTunnelServer({
    config: schema.parse({
      enable: true,
      listenPort: options.port ?? 0,
      psk: { path: await folder.file(`psk-${name}`, options.psk ?? 'secret') },
      ...(options.muxers && { muxers: options.muxers }),
      ...options.config,
    }),
    nodeName: name,
    stateDir,
    logger: recordingLogger(log),
    metrics: createMetrics(),
    health: createHealth(),
  })
  const port = Number(/\/tcp\/(\d+)/.exec(tunnel.status().listen[0] ?? '')?.[1])
  return { tunnel, port, log, stateDir, [Symbol.asyncDispose]: () => tunnel[Symbol.asyncDispose]() }
}

export async function startTestAgent(
  folder: TestFolder,
  name: string,
  serverPort: number,
  options: AgentOptions = {},
): Promise<TestAgent> {
  const log: LogLine[] = []
  const stateDir = options.stateDir ?? join(folder.path, name)
  const metrics = createMetrics()
  const catalog = createCatalog({ debounceMs: 5 })
  catalog.replace('services', [])
  catalog.replace('endpointSlices', [])
  catalog.replace('nodes', [])
  const tunnel = await startTunnel({
    config: schema.parse({
      enable: true,
      listenPort: 0,
      servers: [`127.0.0.1:${serverPort}`],
      // There is no NAT between them, so a hole would be there at once.
      paths: { noPunch: true },
      psk: { path: await folder.file(`psk-${name}`, options.psk ?? 'secret') },
      ...options.config,
    }),
    nodeName: name,
    stateDir,
    ...(options.env && { env: options.env }),
    catalog,
    localDialer: options.localDialer ?? loopbackDialer,
    localDatagrams: loopbackDatagrams,
    nodeAddress: () => '127.0.0.1',
    interfaceAddresses: () => options.interfaces ?? [],
    logger: recordingLogger(log),
    metrics,
    health: createHealth(),
  })
  return {
    name,
    tunnel,
    catalog,
    metrics,
    log,
    stateDir,
    serve: (address, port, protocol = 'tcp') => putService(catalog, name, { address, port, protocol }),
    async [Symbol.asyncDispose]() {
      await tunnel[Symbol.asyncDispose]()
      catalog[Symbol.dispose]()
    },
  }
}

/** A TCP server on 127.0.0.1 that keeps half-open connections open. */
export async function startTcpServer(
  onConnection: (socket: Socket) => void | Promise<void>,
): Promise<{ readonly port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    void onConnection(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export function dial(
  from: TestAgent,
  to: string,
  port: number,
  options: Partial<DialTarget> = {},
): Promise<ByteStream> {
  const target: DialTarget = { protocol: 'tcp', nodeName: to, address: '10.1.1.1', port, ...options }
  return from.tunnel.dialer.dial(target, AbortSignal.timeout(15_000))
}

/** Everything until the far end closes its direction. */
export async function readAll(stream: ByteStream): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** What the target says first, also where a dial finds one of the two still on its way and has to be repeated. */
export async function firstAnswer(from: TestAgent, to: string, port: number, patienceMs = 30_000): Promise<string> {
  const patientUntil = performance.now() + patienceMs
  for (;;) {
    try {
      return (await readAll(await dial(from, to, port))).toString()
    } catch (error) {
      if (performance.now() > patientUntil) throw error
    }
  }
}

/** Waits until the condition holds; fails with the text when it does not in time. */
export async function eventually(what: string, holds: () => boolean, timeoutMs = 5000): Promise<number> {
  const start = performance.now()
  while (!holds()) {
    if (performance.now() - start > timeoutMs) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return performance.now() - start
}

export function isServerReady(agent: TestAgent): boolean {
  return agent.tunnel.status().servers.every(({ connected, reserved }) => connected && reserved)
}

export function knows(agent: TestAgent, name: string): boolean {
  return agent.tunnel.status().peers.some((peer) => peer.name === name)
}

export function pathTo(agent: TestAgent, name: string): string | undefined {
  return agent.tunnel.status().peers.find((peer) => peer.name === name)?.path.kind
}

function putService(
  catalog: ObjectSink,
  nodeName: string,
  { address, port, protocol }: { readonly address: string; readonly port: number; readonly protocol: Protocol },
): void {
  const name = `target-${port}`
  catalog.put('services', {
    namespace: 'test',
    name,
    labels: {},
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.10'],
    headless: false,
    ports: [{ name: '', protocol, port: 80 }],
    publishNotReadyAddresses: false,
  })
  catalog.put('endpointSlices', {
    namespace: 'test',
    name: `${name}-1`,
    serviceName: name,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: '', protocol, port }],
    endpoints: [{ addresses: [address], ready: true, serving: true, terminating: false, nodeName }],
  })
}

function recordingLogger(lines: LogLine[]): Logger {
  const add = (level: LogLine['level']) => (fields: LogFields, message: string) => {
    lines.push({ level, fields, message })
    if (process.env['TUNNEL_TEST_LOG'] !== undefined) console.log(level, message, fields)
  }
  const logger: Logger = {
    debug: add('debug'),
    info: add('info'),
    warn: add('warn'),
    error: add('error'),
    child: () => logger,
  }
  return logger
}
