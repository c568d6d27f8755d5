import { randomBytes } from 'node:crypto'
import * as z from 'zod'
import { type ByteStream, ignoreError, type SocketAddress, type TcpSocket } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { aborted, type BackoffPolicy, backoffDelayMs, sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { LinkTable } from '../links/link-table.ts'
import { type Appearance, hindranceOf } from './mapping.ts'
import { MeetingPoint } from './meeting.ts'
import {
  answerSchema,
  openingSchema,
  punchFrameLimitBytes,
  punchProtocol,
  stepSchema,
  tokenBytes,
} from './punch-messages.ts'

/** What punching needs. */
export interface PuncherOptions {
  readonly host: Pick<Host, 'peerId' | 'handle' | 'handleRaw' | 'dialFromPort'>
  readonly table: Pick<LinkTable, 'peer' | 'dial' | 'accept'>
  readonly tasks: TaskGroup
  /** A relayed connection over which the attempt is agreed; undefined when there is none, or a direct one. */
  relayedConnection(peerId: string): PeerConnection | undefined
  /** How we are seen from outside now; rejects when no server can tell. */
  appearance(signal: AbortSignal): Promise<Appearance>
  nameOf(peerId: string): string | undefined
  readonly logger: Logger
}

/** Dialling goes on for this long; the kernel repeats a lost SYN after 1 s and 3 s. */
const dialMs = 5000
const agreeTimeoutMs = 8000
const retryPolicy: BackoffPolicy = { firstMs: 4000, maxMs: 50_000, jitter: 0.3 }

/** The direct connector may be faster, and needs no NAT to be opened. */
const headStartMs = 300
const maxStreams = 16

/** Without flows for this long nobody waits for a better path. */
const wantedMs = 120_000

interface Attempts {
  failed: number
  wantedAt: number
  /** Ends the wait for the next attempt. */
  wake: () => void
}

/**
 * Makes links through NATs by simultaneous open (RFC 9293 section 3.5) between the two listening ports, for peers that
 * are reached through a relay and have traffic. It works in the background; nothing waits for it.
 */
export class Puncher implements Disposable {
  readonly #options: PuncherOptions
  readonly #meeting: MeetingPoint
  readonly #running = new Map<string, Attempts>()
  readonly #lastErrors = new Map<string, string>()

  constructor(options: PuncherOptions) {
    this.#options = options
    this.#meeting = new MeetingPoint(options.host)
  }

  [Symbol.dispose](): void {
    this.#meeting[Symbol.dispose]()
  }

  /** Flows go to this peer: seeks a hole unless a direct path stands or an attempt is under way. */
  want(peerId: string): void {
    const running = this.#running.get(peerId)
    if (running !== undefined) running.wantedAt = performance.now()
    if (running !== undefined || !this.#isWorthwhile(peerId)) return
    const attempts: Attempts = { failed: 0, wantedAt: performance.now(), wake: () => {} }
    this.#running.set(peerId, attempts)
    this.#options.tasks.run('hole punching', async (signal) => {
      try {
        await sleep(headStartMs, signal)
        await this.#attemptAgain(peerId, attempts, signal)
      } finally {
        this.#running.delete(peerId)
      }
    })
  }

  /** Addresses or servers have changed: waiting makes no sense any more. */
  changed(): void {
    for (const attempts of this.#running.values()) {
      attempts.failed = 0
      attempts.wake()
    }
  }

  /** Why no hole was punched last time. */
  lastErrorOf(peerId: string): string | undefined {
    return this.#options.table.peer(peerId)?.best()?.isDirect ? undefined : this.#lastErrors.get(peerId)
  }

  /** Answers peers that want to meet. */
  async serve(): Promise<void> {
    const { host, tasks } = this.#options
    await host.handle({
      protocol: punchProtocol,
      maxStreams,
      onStream: (stream, from) => {
        stream.on('error', ignoreError)
        tasks.run('hole punching request', async (stopping) => {
          try {
            await this.#answer(stream, from.peerId, stopping)
            stream.end()
            stream.resume()
          } catch (error) {
            this.#noteFailure(from.peerId, error)
            stream.destroy()
          }
        })
      },
    })
  }

  #isWorthwhile(peerId: string): boolean {
    const { table, relayedConnection } = this.#options
    return table.peer(peerId)?.best()?.isDirect !== true && relayedConnection(peerId) !== undefined
  }

  async #attemptAgain(peerId: string, attempts: Attempts, signal: AbortSignal): Promise<void> {
    while (this.#isWorthwhile(peerId)) {
      try {
        await this.#attempt(peerId, signal)
      } catch (error) {
        signal.throwIfAborted()
        this.#noteFailure(peerId, error)
      }
      if (!this.#isWorthwhile(peerId) || !this.#isWanted(peerId, attempts)) return
      attempts.failed += 1
      await this.#pause(attempts, signal)
    }
  }

  #isWanted(peerId: string, { wantedAt }: Attempts): boolean {
    return performance.now() - wantedAt < wantedMs || (this.#options.table.peer(peerId)?.flowCount ?? 0) > 0
  }

  #noteFailure(peerId: string, error: unknown): void {
    const text = reasonOf(error)
    this.#lastErrors.set(peerId, `no hole punched: ${text}`)
    this.#options.logger.debug({ peer: this.#nameOf(peerId), error: text }, 'no hole punched')
  }

  async #pause(attempts: Attempts, signal: AbortSignal): Promise<void> {
    const woken = new AbortController()
    attempts.wake = () => woken.abort()
    using limit = new TimeLimit(backoffDelayMs(retryPolicy, attempts.failed, Math.random), signal, woken.signal)
    await aborted(limit.signal)
    signal.throwIfAborted()
  }

  async #attempt(peerId: string, stopping: AbortSignal): Promise<void> {
    const connection = this.#options.relayedConnection(peerId)
    if (connection === undefined) throw new Error('there is no relayed connection to agree over')
    using limit = new TimeLimit(agreeTimeoutMs, stopping)
    // Whoever cannot tell how it is seen need not bother the other side.
    const seen = await this.#options.appearance(limit.signal)
    const stream = await connection.openStream(punchProtocol, limit.signal)
    stream.on('error', ignoreError)
    try {
      if (this.#options.host.peerId < peerId) await this.#lead(stream, { peerId, seen }, limit.signal, stopping)
      else {
        await writeFrame(stream, { type: 'want' }, limit.signal)
        stream.end()
        await sleep(dialMs, stopping)
      }
    } finally {
      stream.end()
      stream.resume()
    }
  }

  /** Our part when ours is the lower identity. */
  async #lead(
    stream: ByteStream,
    { peerId, seen }: { readonly peerId: string; readonly seen: Appearance },
    signal: AbortSignal,
    stopping: AbortSignal,
  ): Promise<void> {
    const token = randomBytes(tokenBytes).toString('base64url')
    await writeFrame(stream, { type: 'punch', token, seen }, signal)
    const answer = answerSchema.parse(await readFrame(stream, punchFrameLimitBytes, signal))
    if ('error' in answer) throw new Error(`the other side: ${answer.error}`)
    const hindrance = hindranceOf(seen.mapping, answer.seen.mapping)
    if (hindrance !== undefined) throw new Error(hindrance)
    const path = pathOf(seen, answer.seen)
    const pingedAt = performance.now()
    await writeFrame(stream, { type: 'ping' }, signal)
    await readStep(stream, 'pong', signal)
    const roundTripMs = performance.now() - pingedAt
    await writeFrame(stream, { type: 'go' }, signal)
    await sleep(roundTripMs / 2, signal)
    await this.#dialUntilLinked({ peerId, token, candidates: answer.seen.candidates, path }, stopping)
  }

  async #dialUntilLinked(
    {
      peerId,
      token,
      candidates,
      path,
    }: { peerId: string; token: string; candidates: readonly SocketAddress[]; path: string },
    stopping: AbortSignal,
  ): Promise<void> {
    const done = new AbortController()
    using limit = new TimeLimit(dialMs, stopping, done.signal)
    let linking: Promise<void> | undefined
    const onSocket = (socket: TcpSocket) => {
      if (linking !== undefined) {
        socket.destroy()
        return
      }
      linking = this.#link(socket, peerId, path, stopping).finally(() => done.abort())
      linking.catch(() => {})
    }
    await this.#meeting.meet({ token, candidates, signal: limit.signal, onSocket })
    if (linking === undefined) throw new Error(`no answer from ${textOf(candidates)}`)
    await linking
  }

  async #link(socket: TcpSocket, peerId: string, path: string, signal: AbortSignal): Promise<void> {
    const address = `${socket.remoteAddress}:${socket.remotePort}`
    await this.#options.table.dial({ socket, path }, peerId, 'shared', signal)
    this.#options.logger.info({ peer: this.#nameOf(peerId), address, path }, 'peer connected')
  }

  /** Our part when ours is the higher identity, or the peer has traffic and we lead. */
  async #answer(stream: ByteStream, peerId: string, stopping: AbortSignal): Promise<void> {
    using limit = new TimeLimit(agreeTimeoutMs, stopping)
    const opening = openingSchema.parse(await readFrame(stream, punchFrameLimitBytes, limit.signal))
    const isLeader = this.#options.host.peerId < peerId
    if (opening.type === 'want') {
      if (isLeader) this.want(peerId)
      return
    }
    if (isLeader) throw new Error('the peer takes our part')
    const seen = await this.#options.appearance(limit.signal).catch((error: unknown) => describeError(error))
    if (typeof seen === 'string') {
      await writeFrame(stream, { error: seen.slice(0, 1024) }, limit.signal)
      return
    }
    await writeFrame(stream, { seen }, limit.signal)
    const hindrance = hindranceOf(seen.mapping, opening.seen.mapping)
    if (hindrance !== undefined) {
      this.#noteFailure(peerId, new Error(hindrance))
      return
    }
    const path = pathOf(seen, opening.seen)
    await readStep(stream, 'ping', limit.signal)
    await writeFrame(stream, { type: 'pong' }, limit.signal)
    await readStep(stream, 'go', limit.signal)
    using dialling = new TimeLimit(dialMs, stopping)
    const { token, seen: theirs } = opening
    let isMet = false
    await this.#meeting.meet({
      token,
      candidates: theirs.candidates,
      signal: dialling.signal,
      onSocket: (socket) => {
        isMet = true
        this.#options.table.accept({ socket, path })
      },
    })
    if (!isMet) throw new Error(`no answer from ${textOf(theirs.candidates)}`)
  }

  #nameOf(peerId: string): string {
    return this.#options.nameOf(peerId) ?? peerId
  }
}

/** What the link is called. */
function pathOf(here: Appearance, there: Appearance): 'direct' | 'punched' {
  return here.mapping === 'open' || there.mapping === 'open' ? 'direct' : 'punched'
}

async function readStep(stream: ByteStream, type: 'ping' | 'pong' | 'go', signal: AbortSignal): Promise<void> {
  const step = stepSchema.parse(await readFrame(stream, punchFrameLimitBytes, signal))
  if (step.type !== type) throw new Error(`expected ${type}, not ${step.type}`)
}

function textOf(candidates: readonly SocketAddress[]): string {
  return candidates.map(({ address, port }) => `${address}:${port}`).join(', ')
}

function reasonOf(error: unknown): string {
  if (error instanceof Error && error.name === 'UnsupportedProtocolError') return 'the other side takes no part'
  // Its details are about our schema: people see them in the status.
  if (error instanceof z.ZodError) return 'the other side left, or said something that this version does not know'
  return describeError(error)
}
