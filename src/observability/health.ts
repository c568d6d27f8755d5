/** What the process still waits for before it is ready. */
export interface Health {
  /** Holds readiness back until the returned token is disposed: `using waiting = health.block('first list')`. */
  block(what: string): Disposable
  /** What readiness waits for; empty means ready. */
  waitingFor(): readonly string[]
}

/** Readiness as a list of reasons. */
export function createHealth(): Health {
  const blocks = new Set<{ readonly what: string }>()
  return {
    block(what) {
      const block = { what }
      blocks.add(block)
      return {
        [Symbol.dispose]() {
          blocks.delete(block)
        },
      }
    },
    waitingFor: () => [...blocks].map(({ what }) => what),
  }
}
