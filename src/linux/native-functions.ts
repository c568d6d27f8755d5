import process from 'node:process'
import type { Logger } from '../observability/index.ts'
import { loadEmbeddedAddon, NativeAddonError } from './native-addon.ts'

/** What only native code can do (`native/edgemesh.c`). */
export interface NativeFunctions {
  /**
   * Lets go of the executable's pages in memory and returns how many bytes of address space they belong to. They stay
   * in the kernel's page cache, from where those that are used again come back within microseconds.
   */
  releaseMemory(): number
  /** Gives back to the kernel what the C library keeps free: a millisecond, ten when tens of megabytes were. */
  trimFreeMemory(): void
  /** Sends a line to the service manager's socket, `@NAME` for an abstract one; 0, or the `errno` of what failed. */
  sdNotify(socket: string, state: string): number
  /** The user ID that listens on an abstract stream socket; -1 when nobody does or it cannot be told. */
  ownerOf(name: string): number
  /**
   * Hands the kernel a batch of nfnetlink messages, which it takes as a whole or not at all, and writes its answers into
   * the second buffer. Returns how many bytes those are, or the negative `errno` of what failed. Blocks until it is done.
   */
  changeNetfilter(batch: Buffer, answers: Buffer): number
}

/**
 * Loads the addon of the executable. Undefined outside it, and where it cannot be loaded: all that it does can be done
 * without.
 */
export function loadNativeFunctions(logger: Logger): NativeFunctions | undefined {
  if (!process.getBuiltinModule('node:sea').isSea()) return undefined
  try {
    return parseNativeFunctions(loadEmbeddedAddon('edgemesh'))
  } catch (error) {
    if (!(error instanceof NativeAddonError)) throw error
    logger.debug({ error }, 'goes on without native functions')
    return undefined
  }
}

/** Checks what an addon exports; throws when it is another addon. */
export function parseNativeFunctions(exports: unknown): NativeFunctions {
  if (isNativeFunctions(exports)) return exports
  throw new Error('Cannot use the addon edgemesh: it has other functions')
}

function isNativeFunctions(exports: unknown): exports is NativeFunctions {
  const names: readonly (keyof NativeFunctions)[] = [
    'releaseMemory',
    'trimFreeMemory',
    'sdNotify',
    'ownerOf',
    'changeNetfilter',
  ]
  return names.every((name) => typeof Reflect.get(Object(exports), name) === 'function')
}
