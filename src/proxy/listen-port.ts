import type { EphemeralPorts } from '../linux/index.ts'

/** The port of the Go system, inside the range of outgoing connections of most kernels. */
const traditionalPort = 40001
/** Below the ports of outgoing connections and of NodePorts (30000 to 32767). */
const firstOwnPort = 24001
const ownPorts = 16

/** Ports to try in turn. One that an outgoing connection may take at any time is not among them, unless configured. */
export function listenPortCandidates(configured: number, ephemeral: EphemeralPorts): readonly number[] {
  if (configured !== 0) return [configured]
  const isSafe = (port: number) => port < ephemeral.first || port > ephemeral.last || ephemeral.isReserved(port)
  const own = Array.from({ length: ownPorts }, (_, index) => firstOwnPort + index)
  const safe = [traditionalPort, ...own].filter(isSafe)
  return safe.length > 0 ? safe : own
}
