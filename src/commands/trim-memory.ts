import { performance } from 'node:perf_hooks'
import type { NativeFunctions } from '../linux/index.ts'
import { createLoggedTasks, type Logger } from '../observability/index.ts'
import { sleep } from '../runtime/index.ts'

/** What giving memory back needs. */
export interface MemoryTrimOptions {
  readonly native: Pick<NativeFunctions, 'releaseMemory' | 'trimFreeMemory'> | undefined
  readonly logger: Logger
  /** Collects all garbage, also what V8 would rather keep; absent where V8 does not offer it. */
  readonly collect: (() => void) | undefined
  /** The part of the time, 0 to 1, that this process was busy since the last call. */
  readonly busyPart: () => number
  /** What the process holds now. */
  readonly heldBytes: () => number
  /** Default `sleep`. */
  readonly wait?: (durationMs: number, signal: AbortSignal) => Promise<void>
}

/** The start is over, and only its first clients wait. */
const startedMs = 500
/** Twice what an agent of a small cluster holds: the rest is mostly garbage of the first lists. */
const muchBytes = 130e6
/** Servers and peers are met, the first records exchanged. */
const settleMs = 10_000
const lookMs = 5_000
/** Timers and a probe now and then are less than this. */
const idlePart = 0.05
const freeMs = 30_000
const againMs = 600_000
/** A few clients make it half as much again, which they will need again; so much is what a burst leaves. */
const grownTo = 5 / 3

/**
 * Gives back the memory that only the start needed: its garbage, and the pages of code that ran once. That is a third of
 * what an idle agent holds. It stops the process for a tenth of a second, so it waits for quiet after the start; and it is
 * repeated only after bursts that took far more than what is left then. Only a start that took much gives back at once as
 * well: other processes of a small machine start now too. What the C library keeps free, mostly room of buffers that a
 * burst has filled, is given back all the time, which takes a millisecond.
 */
export function startMemoryTrim(options: MemoryTrimOptions): AsyncDisposable {
  const { logger, wait = sleep } = options
  const tasks = createLoggedTasks(logger)
  tasks.run('memory trim', async (signal) => {
    await wait(startedMs, signal)
    if (options.heldBytes() > muchBytes) trim(options)
    await wait(settleMs, signal)
    for (;;) {
      options.busyPart()
      do await wait(lookMs, signal)
      while (options.busyPart() > idlePart)
      trim(options)
      const limitBytes = options.heldBytes() * grownTo
      do await wait(againMs, signal)
      while (options.heldBytes() < limitBytes)
    }
  })
  tasks.run('free memory', (signal) => trimFreeMemory(options, signal))
  return tasks
}

async function trimFreeMemory({ native, wait = sleep }: MemoryTrimOptions, signal: AbortSignal): Promise<void> {
  while (native !== undefined) {
    await wait(freeMs, signal)
    native.trimFreeMemory()
  }
}

function trim({ native, collect, logger }: MemoryTrimOptions): void {
  const started = performance.now()
  collect?.()
  native?.releaseMemory()
  logger.debug({ durationMs: Math.round(performance.now() - started) }, 'memory given back')
}

/** Collects as V8 does before it gives up for lack of memory; undefined unless V8 runs with `--expose-gc`. */
export function lastResortCollection(): (() => void) | undefined {
  const { gc } = globalThis
  return gc && (() => gc({ type: 'major', execution: 'sync', flavor: 'last-resort' }))
}

/** Reads how busy the event loop was between two calls. */
export function createBusyMeter(): () => number {
  let last = performance.eventLoopUtilization()
  return () => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, last)
    last = now
    return utilization
  }
}
