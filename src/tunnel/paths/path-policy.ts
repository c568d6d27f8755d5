import type { TunnelConfig } from '../config.ts'

/** What `edgeTunnel.paths` allows. */
export interface PathPolicy {
  readonly seeksDirect: boolean
  readonly punches: boolean
  readonly mapsPorts: boolean
  /** Whether flows may go this way: `direct`, `punched` or `relayed via NAME`. */
  allows(path: string): boolean
}

/** Everything is allowed unless a switch forbids it. */
export function pathPolicyOf({ directOnly, relayOnly, noPunch, noPortMapping }: TunnelConfig['paths']): PathPolicy {
  const punches = !noPunch && !relayOnly
  return {
    seeksDirect: !relayOnly,
    punches,
    mapsPorts: !noPortMapping && !relayOnly,
    allows(path) {
      if (path.startsWith('relayed')) return !directOnly
      return path === 'punched' ? punches : !relayOnly
    },
  }
}
