import type { Balancer } from '../../loadbalancer/index.ts'
import type { Backend } from '../../model/index.ts'
import { type ByteStream, DialError, type Dialer } from '../../net/index.ts'

/** How hard to try. */
export interface DialPolicy {
  readonly maxAttempts: number
  readonly attemptTimeoutMs: number
  /** A backend that has not answered by then is avoided by other connections, while this one goes on waiting. */
  readonly slowAfterMs: number
  /** Bounds all attempts together. */
  readonly totalTimeoutMs: number
}

/** One backend that could not be dialled. */
export interface FailedDial {
  readonly backend: Backend
  readonly error: unknown
}

/** No backend could be dialled; the causes are in the order of the attempts. */
export class NoBackendError extends AggregateError {
  override readonly name = 'NoBackendError'
  readonly code = 'EDGEMESH_NO_BACKEND'

  constructor(failures: readonly FailedDial[]) {
    const reason = failures.length === 0 ? 'there are none' : `${failures.length} attempts failed`
    super(
      failures.map(({ error }) => error),
      `Cannot reach any backend: ${reason}`,
    )
  }
}

/** What to dial, and with what. */
export interface DialFirstReachableOptions {
  readonly dialer: Dialer
  readonly balancer: Balancer
  readonly policy: DialPolicy
  /** Is told of each failure, also when a later attempt succeeds. */
  readonly onFailure: (failure: FailedDial) => void
}

/**
 * Dials the balancer's backends one after the other until one accepts, and tells the balancer how each dial went.
 * Throws `NoBackendError` when none accepts, or the signal's reason.
 */
export async function dialFirstReachable(
  { dialer, balancer, policy, onFailure }: DialFirstReachableOptions,
  signal: AbortSignal,
): Promise<{ readonly stream: ByteStream; readonly backend: Backend }> {
  const failures: FailedDial[] = []
  const startedMs = performance.now()
  for (const backend of balancer.attempts()) {
    const leftMs = startedMs + policy.totalTimeoutMs - performance.now()
    if (failures.length >= policy.maxAttempts || leftMs <= 0) break
    try {
      using _slow = after(policy.slowAfterMs, () => balancer.dialFailed(backend))
      const stream = await dialWithin(dialer, backend, Math.min(policy.attemptTimeoutMs, leftMs), signal)
      balancer.dialSucceeded(backend)
      return { stream, backend }
    } catch (error) {
      signal.throwIfAborted()
      balancer.dialFailed(backend)
      failures.push({ backend, error })
      onFailure({ backend, error })
    }
  }
  throw new NoBackendError(failures)
}

async function dialWithin(
  dialer: Dialer,
  backend: Backend,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ByteStream> {
  const attempt = new AbortController()
  const { nodeName, address, port } = backend
  const onAbort = () => attempt.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  using _timeout = after(timeoutMs, () => attempt.abort(timeoutError(backend, timeoutMs)))
  try {
    return await dialer.dial({ protocol: 'tcp', nodeName, address, port }, attempt.signal)
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** Runs `action` once the time is over, unless it is disposed before. */
function after(durationMs: number, action: () => void): Disposable {
  const timer = setTimeout(action, durationMs)
  return { [Symbol.dispose]: () => clearTimeout(timer) }
}

function timeoutError({ nodeName, address, port }: Backend, timeoutMs: number): DialError {
  const where = nodeName === undefined ? '' : ` on ${nodeName}`
  return new DialError('unreachable', `connect ETIMEDOUT ${address}:${port}${where} (${Math.round(timeoutMs)} ms)`)
}
