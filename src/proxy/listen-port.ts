import type { EphemeralPorts } from '../linux/index.ts'

/** The port of the Go system, inside the range of outgoing connections of most kernels. */
const traditionalPort = 40001
/** Below the ports of outgoing connections and of NodePorts (30000 to 32767). */
const firstOwnPort = 24001
const ownPorts = 16

/** Ports to try in turn. One that an outgoing connection may take at any time is not among them, unless configured. */
export function listenPortCandidates(configured: number, ephemeral: EphemeralPorts): readonly number[] {
  if (configured !== 0) return [configured]
  const own = portsFrom(firstOwnPort)
  const safe = [traditionalPort, ...own].filter((port) => isSafe(port, ephemeral))
  return safe.length > 0 ? safe : own
}

/** Ports to try in turn for one more listener; beside a configured port those that follow it. */
export function morePortCandidates(
  configured: number,
  { used, ephemeral }: { readonly used: readonly number[]; readonly ephemeral: EphemeralPorts },
): readonly number[] {
  const after = configured === 0 ? [] : portsFrom(configured + 1).filter((port) => port <= 65_535)
  const candidates = [...after, ...portsFrom(firstOwnPort)].filter((port) => !used.includes(port))
  const safe = candidates.filter((port) => isSafe(port, ephemeral))
  return safe.length > 0 ? safe : candidates
}

const portsFrom = (first: number): number[] => Array.from({ length: ownPorts }, (_, index) => first + index)

const isSafe = (port: number, ephemeral: EphemeralPorts): boolean =>
  port < ephemeral.first || port > ephemeral.last || ephemeral.isReserved(port)
