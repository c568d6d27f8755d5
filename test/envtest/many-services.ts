import { join } from 'node:path'
import process from 'node:process'
import type { Host, LabProcess } from '../lab/index.ts'
import { admin, type ControlPlane } from './control-plane.ts'

/** Makes `bulk-0` and so on, each with two ports and three endpoints on these nodes in turn; sends from a host. */
export async function writeManyServices(
  plane: ControlPlane,
  host: Host,
  { count, nodes }: { readonly count: number; readonly nodes: readonly string[] },
): Promise<void> {
  const timeoutMs = 30_000 + 100 * count
  const { code, stderr } = await host.exec(argvOf('write-services.ts', plane, { count, nodes }), { timeoutMs })
  if (code !== 0) throw new Error(`the Services cannot be made: ${stderr}`)
}

/** Tells when events of EndpointSlices reach a host. */
export interface SliceWatch extends AsyncDisposable {
  /** When the newest event of that slice came, in milliseconds since 1970; waits for one after `sinceMs`. */
  eventOf(name: string, sinceMs: number): Promise<number>
}

/** Watches beside the agent of a host. */
export async function watchSlices(plane: ControlPlane, host: Host): Promise<SliceWatch> {
  const watch: LabProcess = host.spawn(argvOf('watch-slices.ts', plane, {}))
  await watch.waitForLine(/^watching$/)
  return {
    async eventOf(name, sinceMs) {
      for (let attempt = 0; attempt < 1_000; attempt++) {
        const times = watch.output().matchAll(new RegExp(`^${name} (\\d+)$`, 'gm'))
        const at = [...times].map((match) => Number(match[1])).findLast((time) => time >= sinceMs)
        if (at !== undefined) return at
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      throw new Error(`no event of ${name}`)
    },
    [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose](),
  }
}

function argvOf(script: string, plane: ControlPlane, more: object): string[] {
  const settings = { url: plane.url, caFile: plane.authority.ca, token: admin.token, ...more }
  return [process.execPath, join(import.meta.dirname, 'scripts', script), JSON.stringify(settings)]
}
