/**
 * One end of a connection that does what a script says. Both ends read all the time, so that nobody waits for the
 * other to read.
 */
import { createHash } from 'node:crypto'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { testByteSource } from './bytes.ts'

/** What one end does; each step waits for the one before it. */
export type Step =
  /** Sends the next test bytes. */
  | { readonly send: number }
  /** Waits until this many bytes have come in all. */
  | { readonly receive: number }
  /** Shuts down this end's direction. */
  | 'end'
  /** Waits until the other end has shut down its direction. */
  | 'receive the end'
  /** Resets the connection. */
  | 'reset'
  | { readonly waitMs: number }
  /** Prints a line, which tells a test how far this is; only in a client. */
  | { readonly say: string }
  /** Waits until all connections of this process have come to this step; only in a client. */
  | 'meet'

/** What one end has seen of a connection. */
export interface EndReport {
  readonly id: string
  readonly bytes: number
  readonly sha256: string
  /** `in order`: the other end shut down its direction; `reset here`: this end reset it; else the code of the error. */
  readonly end: string
}

/** What the client's first line tells the server to do. */
export interface ScriptRequest {
  readonly id: string
  readonly seed: number
  readonly steps: readonly Step[]
}

/** Steps that only one of the two programs knows. */
export interface StepContext {
  readonly say?: (text: string) => void
  readonly meet?: () => Promise<void>
}

const sendChunkBytes = 64 * 1024

/** Follows the script until the connection is closed; never rejects. */
export async function runScript(socket: Socket, request: ScriptRequest, context: StepContext = {}): Promise<EndReport> {
  const watched = watch(socket)
  const next = testByteSource(request.seed)
  const run = async () => {
    for (const step of request.steps) await runStep(socket, step, { watched, next, context })
  }
  // A broken connection ends the script early; the report says so.
  await Promise.race([run(), watched.closed]).catch((error: unknown) => socket.destroy(asError(error)))
  await watched.closed
  return { id: request.id, ...watched.report() }
}

interface Running {
  readonly watched: Watched
  readonly next: (count: number) => Buffer
  readonly context: StepContext
}

async function runStep(socket: Socket, step: Step, { watched, next, context }: Running): Promise<void> {
  if (step === 'end') return void socket.end()
  if (step === 'receive the end') return await watched.until(() => watched.isEnded())
  if (step === 'reset') return void socket.resetAndDestroy()
  if (step === 'meet') return await context.meet?.()
  if ('send' in step) return await send(socket, step.send, next)
  if ('receive' in step) return await watched.until(() => watched.bytes() >= step.receive)
  if ('say' in step) return context.say?.(step.say)
  await delay(step.waitMs)
}

async function send(socket: Socket, count: number, next: (count: number) => Buffer): Promise<void> {
  for (let left = count; left > 0; left -= sendChunkBytes) {
    if (socket.destroyed) return
    if (socket.write(next(Math.min(left, sendChunkBytes)))) continue
    const { promise, resolve } = Promise.withResolvers<void>()
    socket.once('drain', resolve)
    await promise
  }
}

interface Watched {
  readonly closed: Promise<void>
  bytes(): number
  isEnded(): boolean
  until(condition: () => boolean): Promise<void>
  report(): Omit<EndReport, 'id'>
}

function watch(socket: Socket): Watched {
  const hash = createHash('sha256')
  const { promise: closed, resolve: close } = Promise.withResolvers<void>()
  let bytes = 0
  let end = 'reset here'
  let look = () => {}
  socket.on('data', (chunk) => {
    hash.update(chunk)
    bytes += chunk.length
    look()
  })
  socket.on('end', () => {
    end = 'in order'
    look()
  })
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code ?? error.message
  })
  socket.on('close', () => close())
  return {
    closed,
    bytes: () => bytes,
    isEnded: () => end === 'in order',
    async until(condition) {
      const { promise, resolve } = Promise.withResolvers<void>()
      look = () => condition() && resolve()
      look()
      await promise
    },
    report: () => ({ bytes, sha256: hash.digest('hex'), end }),
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
