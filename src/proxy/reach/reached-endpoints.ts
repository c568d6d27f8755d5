import type { Backend, Protocol } from '../../model/index.ts'

/** Endpoints on other nodes to which this node can send by itself; another object once that changed. */
export interface ReachedEndpoints {
  has(endpoint: Backend, protocol: Protocol): boolean
}

/** Everything is reached, because the operator says so. */
export const everythingReached: ReachedEndpoints = { has: () => true }
