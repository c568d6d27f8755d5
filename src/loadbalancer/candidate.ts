import type { Backend, OutlierDetection } from '../model/index.ts'

/** What a balancer knows about one backend. */
export interface Candidate {
  readonly id: string
  backend: Backend
  preferred: boolean
  /** When it was last picked, counted in picks; the lowest has waited longest. */
  lastTurn: number
  /** Connections, or requests, that are open now. */
  open: number
  /** Failed dials since the last one that succeeded or led to an ejection. */
  failures: number
  /** Ejections since the last dial that succeeded. */
  ejections: number
  /** Absent unless it was ejected and no dial has succeeded since. */
  ejectedUntilMs: number | undefined
  /** Absent unless a dial took long and none has succeeded since. */
  slowUntilMs: number | undefined
}

/** Ejection where no rule asks for another: at once, as long as there are others, and not for long. */
export const usualOutlierDetection: OutlierDetection = {
  consecutiveErrors: 1,
  baseEjectionMs: 5_000,
  maxEjectionPercent: 100,
}

/** A backend that fails again and again is left out longer and longer, up to this many times as long. */
const longestEjectionFactor = 6
const slowMs = 5_000

/** A backend that was never picked. */
export function createCandidate(id: string, backend: Backend, lastTurn: number): Candidate {
  return {
    id,
    backend,
    preferred: false,
    lastTurn,
    open: 0,
    failures: 0,
    ejections: 0,
    ejectedUntilMs: undefined,
    slowUntilMs: undefined,
  }
}

/** True while others are tried before this one. */
export function isAvoided({ ejectedUntilMs, slowUntilMs }: Candidate, nowMs: number): boolean {
  return (ejectedUntilMs ?? 0) > nowMs || (slowUntilMs ?? 0) > nowMs
}

/** Counts a failed dial, and ejects when there were enough and not too many others are ejected. */
export function noteFailure(
  candidate: Candidate,
  all: readonly Candidate[],
  detection: OutlierDetection,
  nowMs: number,
): void {
  candidate.failures += 1
  // One that was ejected has to prove itself, so its next failure is enough.
  const isOnProbation = candidate.ejectedUntilMs !== undefined
  if (detection.consecutiveErrors < 1) return
  if (!isOnProbation && candidate.failures < detection.consecutiveErrors) return
  const others = all.filter((other) => other !== candidate && (other.ejectedUntilMs ?? 0) > nowMs).length
  if (others >= mostEjected(all.length, detection.maxEjectionPercent)) return
  candidate.failures = 0
  candidate.ejections = Math.min(candidate.ejections + 1, longestEjectionFactor)
  candidate.ejectedUntilMs = nowMs + detection.baseEjectionMs * candidate.ejections
}

/** A dial has not answered yet: others are tried first for a while, without blame. */
export function noteSlowness(candidate: Candidate, nowMs: number): void {
  candidate.slowUntilMs = nowMs + slowMs
}

/** Forgets what was held against the backend. */
export function noteSuccess(candidate: Candidate): void {
  candidate.failures = 0
  candidate.ejections = 0
  candidate.ejectedUntilMs = undefined
  candidate.slowUntilMs = undefined
}

/** Once its time is over one connection tries the backend; the others go on avoiding it until that one has ended. */
export function noteTurn(candidate: Candidate, turn: number, detection: OutlierDetection, nowMs: number): void {
  candidate.lastTurn = turn
  if (candidate.ejectedUntilMs !== undefined) {
    candidate.ejectedUntilMs = Math.max(candidate.ejectedUntilMs, nowMs + detection.baseEjectionMs)
  }
  if (candidate.slowUntilMs !== undefined) candidate.slowUntilMs = nowMs + slowMs
}

/** One may always be ejected, as Envoy does it; else small Services would have no ejection at all. */
function mostEjected(count: number, percent: number): number {
  return percent <= 0 ? 0 : Math.max(1, Math.floor((count * percent) / 100))
}
