import type { DatagramChannel } from './dialer.ts'

/** Sessions of clients that vanished without a word end after this long without a datagram either way. */
const idleMs = 180_000

/**
 * Passes datagrams both ways until one side is over, the signal aborts, or nothing has come for three minutes; closes
 * both sides.
 */
export async function exchangeDatagrams(
  left: DatagramChannel,
  right: DatagramChannel,
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const idle = setTimeout(resolve, idleMs)
  left.onMessage((message) => {
    idle.refresh()
    right.send(message)
  })
  right.onMessage((message) => {
    idle.refresh()
    left.send(message)
  })
  const onAbort = () => resolve()
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) resolve()
  await Promise.race([promise, left.closed, right.closed])
  clearTimeout(idle)
  signal.removeEventListener('abort', onAbort)
  left[Symbol.dispose]()
  right[Symbol.dispose]()
}
