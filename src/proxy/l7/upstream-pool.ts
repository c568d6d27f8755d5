import { type ByteStream, type Dialer, type DialTarget, ignoreError, resetStream } from '../../net/index.ts'

/** Shorter than the five seconds after which common servers close an idle connection, so that few reuses come too late. */
const idleMs = 4_000
const mostIdlePerTarget = 64

/** A connection to a backend, ready for one request. */
export interface HttpUpstream {
  readonly stream: ByteStream
  /** It carried a request before, so the backend may be closing it at this very moment. */
  readonly isReused: boolean
  /** Hands it back after a response in order; without it the stream is closed by whoever has it. */
  keep(): void
  /** Tells that it failed: others that were kept for the same backend are closed, because they are likely gone too. */
  lost(): void
}

/** Keeps connections between requests and gives them to the next request for the same target. */
export interface UpstreamPool extends Disposable {
  /** Dials, but takes a kept connection first; `upstreamOf` tells which it was. */
  readonly dialer: Dialer
  upstreamOf(stream: ByteStream): HttpUpstream
}

interface Idle {
  readonly stream: ByteStream
  readonly drop: () => void
}

/** Makes an empty pool on top of a dialer. */
export function createUpstreamPool(dialer: Dialer): UpstreamPool {
  const idle = new Map<string, Idle[]>()
  const keys = new WeakMap<ByteStream, string>()
  const reused = new WeakSet<ByteStream>()
  let isOpen = true

  const take = (key: string): ByteStream | undefined => {
    const kept = idle.get(key)
    const last = kept?.pop()
    if (kept?.length === 0) idle.delete(key)
    last?.drop()
    return last?.stream
  }
  const keep = (stream: ByteStream) => {
    const key = keys.get(stream) ?? ''
    const kept = idle.get(key) ?? []
    if (!isOpen || stream.destroyed || kept.length >= mostIdlePerTarget) {
      stream.destroy()
      return
    }
    idle.set(key, kept)
    kept.push(watched(stream, () => removeFrom(idle, key, stream)))
  }
  const forget = (key: string) => {
    for (let kept = take(key); kept !== undefined; kept = take(key)) kept.destroy()
  }
  return {
    dialer: {
      async dial(target, signal) {
        const key = keyOf(target)
        const kept = take(key)
        if (kept !== undefined) {
          reused.add(kept)
          return kept
        }
        const stream = await dialer.dial(target, signal)
        // For its life, whoever has it: once for each request they would never end.
        stream.on('error', ignoreError)
        keys.set(stream, key)
        return stream
      },
    },
    upstreamOf: (stream) => ({
      stream,
      isReused: reused.has(stream),
      keep: () => keep(stream),
      lost: () => forget(keys.get(stream) ?? ''),
    }),
    [Symbol.dispose]() {
      isOpen = false
      for (const key of [...idle.keys()]) forget(key)
    },
  }
}

function keyOf({ nodeName, address, port }: DialTarget): string {
  return `${nodeName ?? '-'} ${address} ${port}`
}

/** While nobody asks for anything, an end, an error or a word of the backend all mean that it cannot be used again. */
function watched(stream: ByteStream, remove: () => void): Idle {
  const onGone = () => {
    remove()
    drop()
    resetStream(stream, new Error('the idle connection is over'))
  }
  const timer = setTimeout(onGone, idleMs)
  timer.unref()
  const drop = () => {
    clearTimeout(timer)
    for (const event of ['data', 'end', 'error', 'close']) stream.off(event, onGone)
  }
  for (const event of ['data', 'end', 'error', 'close']) stream.on(event, onGone)
  return { stream, drop }
}

function removeFrom(idle: Map<string, Idle[]>, key: string, stream: ByteStream): void {
  const left = (idle.get(key) ?? []).filter((entry) => entry.stream !== stream)
  if (left.length === 0) idle.delete(key)
  else idle.set(key, left)
}
