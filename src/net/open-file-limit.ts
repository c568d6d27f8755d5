import { readFileSync } from 'node:fs'

/** How many file descriptors this process may have open, or undefined where the kernel does not tell. */
export function readOpenFileLimit(path = '/proc/self/limits'): number | undefined {
  try {
    const match = /^Max open files\s+(\d+)/m.exec(readFileSync(path, 'latin1'))
    return match === null ? undefined : Number(match[1])
  } catch {
    return undefined
  }
}
