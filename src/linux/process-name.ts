import { writeFileSync } from 'node:fs'

/** Names the process for `ps`, `top` and `pgrep`; Node would call it MainThread. At most 15 bytes are kept. */
export function nameProcess(name: string): void {
  try {
    writeFileSync('/proc/self/comm', name)
  } catch {
    // Without /proc nobody can look the name up either.
  }
}
