/** Sent on a quiet connection after this long, and every second then; ten without an answer end it. */
const keepAlive = { keepAlive: true, keepAliveInitialDelay: 180_000 } as const

/**
 * How the library's TCP connections are kept. An idle one is left to the kernel, whose probes cost a hundredth of the
 * library's; the library would close it after two minutes.
 */
export const tcpOptions = {
  backlog: 1024,
  inboundSocketInactivityTimeout: 0,
  outboundSocketInactivityTimeout: 0,
  dialOpts: keepAlive,
  // Shared, so that connections can be dialled from it too.
  listenOpts: { ...keepAlive, reusePort: true },
}
