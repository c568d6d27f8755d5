/** One end of links for tests: a table of links that listens on 127.0.0.1, and notes what peers ask for and what goes wrong. */
import assert from 'node:assert/strict'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { type ByteStream, startTcpListener } from '../../src/net/index.ts'
import {
  createMetrics,
  describeError,
  type LogFields,
  type Logger,
  type Metrics,
  silentLogger,
} from '../../src/observability/index.ts'
import { TaskGroup } from '../../src/runtime/index.ts'
import type { IncomingFlow } from '../../src/tunnel/flows/incoming-flow.ts'
import { KeyRing } from '../../src/tunnel/identity/key-ring.ts'
import type { LinkCredentials, LinkKind, VersionRange } from '../../src/tunnel/links/hello.ts'
import { LinkTable } from '../../src/tunnel/links/link-table.ts'
import type { WindowBudget } from '../../src/tunnel/links/window-budget.ts'
import { eventually } from './tunnel-mesh.ts'

/** What comes from here has come through a relay. */
export const relayAddress = '127.0.0.9'
export const relayedPath = 'relayed via the relay'

/** What a test does with an end. */
export interface LinkEnd extends AsyncDisposable {
  readonly table: LinkTable
  readonly credentials: LinkCredentials
  readonly peerId: string
  readonly port: number
  readonly metrics: Metrics
  /** Flows that peers asked for, in order. */
  readonly incoming: IncomingFlow[]
  /** Links that would be of use, in order. */
  readonly wanted: LinkKind[]
  /** Warnings and errors, with their causes and remedies. */
  readonly log: string[]
  /** Why links have ended, among other things. */
  readonly ends: string[]
}

/** How an end differs from one of an open mesh. */
export interface LinkEndOptions {
  readonly preSharedKey?: Uint8Array
  readonly previousKey?: Uint8Array
  /** Names that belong to these identities alone. */
  readonly owners?: Readonly<Record<string, string>>
  readonly versions?: VersionRange
  readonly capabilities?: readonly string[]
  readonly budget?: WindowBudget
  readonly resumeMs?: number
}

/** A new identity, with the keys of its mesh. */
export async function createLinkCredentials(key?: Uint8Array, previous?: Uint8Array): Promise<LinkCredentials> {
  const privateKey = await generateKeyPair('Ed25519')
  return {
    identity: { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() },
    keyRing: key && KeyRing.of(key, previous),
  }
}

export async function startLinkEnd(name: string, options: LinkEndOptions = {}): Promise<LinkEnd> {
  const { preSharedKey, previousKey, owners = {}, ...others } = options
  const stack = new AsyncDisposableStack()
  const credentials = await createLinkCredentials(preSharedKey, previousKey)
  const metrics = createMetrics()
  const noted = { incoming: [] as IncomingFlow[], wanted: [] as LinkKind[], log: [] as string[], ends: [] as string[] }
  const tasks = stack.use(new TaskGroup(() => {}))
  const table = stack.use(
    new LinkTable({
      credentials,
      self: { name, role: 'agent', sequence: 1 },
      tasks,
      nameConflictOf: (claimed, peerId) =>
        (owners[claimed] ?? peerId) === peerId ? undefined : `the name ${claimed} belongs to another identity`,
      onIncoming: (flow) => void noted.incoming.push(flow),
      onWant: (_, kind) => void noted.wanted.push(kind),
      onChange() {},
      onStranded() {},
      resumeMs: 60_000,
      logger: recording(noted.log, noted.ends),
      metrics,
      ...others,
    }),
  )
  const { port } = stack.use(
    await startTcpListener({
      host: '127.0.0.1',
      port: 0,
      onConnection: (socket) =>
        table.accept({ socket, path: socket.remoteAddress === relayAddress ? relayedPath : 'direct' }),
    }),
  )
  const { peerId } = credentials.identity
  return { table, credentials, peerId, port, metrics, ...noted, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

/** Opens a flow from one end and accepts it at the other. */
export async function openFlow(from: LinkEnd, to: LinkEnd): Promise<[ByteStream, ByteStream]> {
  const signal = AbortSignal.timeout(60_000)
  const request = { protocol: 'tcp', nodeName: 'x', address: '10.1.1.1', port: 80 } as const
  const before = to.incoming.length
  const opening = from.table.peer(to.peerId)?.open(request, signal)
  await eventually('the flow arrives', () => to.incoming.length > before)
  const accepted = await to.incoming.at(-1)?.accept(signal)
  const opened = await opening
  assert.ok(opened && accepted)
  return [opened, accepted]
}

function recording(lines: string[], ends: string[]): Logger {
  const noteIn = (list: string[]) => (fields: LogFields, text: string) =>
    void list.push(`${text}: ${describeError(fields.error ?? '')}; ${fields.remedy ?? ''}`)
  const logger: Logger = {
    ...silentLogger,
    debug: noteIn(ends),
    warn: noteIn(lines),
    error: noteIn(lines),
    child: () => logger,
  }
  return logger
}
