import { join } from 'node:path'
import type { Host } from '../../lab/index.ts'

/** A process under observation. */
export interface Observed {
  readonly name: string
  readonly pid: number
  readonly controlSocket: string
}

/** The process of a role that the lab has started on a host. */
export function observedOn(host: Host, role: 'agent' | 'server', pid: number): Observed {
  return { name: host.name, pid, controlSocket: join(host.dir, role, 'run', 'control.sock') }
}
