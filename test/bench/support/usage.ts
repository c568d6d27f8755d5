/** What a running edgemesh takes, read from outside and from its own metrics, and how that grows. */
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { requestControl } from '../../../src/net/index.ts'
import type { Observed } from './observed.ts'

/** What a process takes at one moment, in bytes. */
export interface Usage {
  readonly rss: number
  readonly rssAnon: number
  readonly rssFile: number
  readonly heapUsed: number
  readonly external: number
  readonly openFiles: number
  /** User and system time so far. */
  readonly cpuSeconds: number
}

const ticksPerSecond = 100
const watchMs = 300

export async function usageOf({ pid, controlSocket }: Observed): Promise<Usage> {
  const { body } = await requestControl(controlSocket, { method: 'GET', url: '/metrics' }, AbortSignal.timeout(10_000))
  const metric = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(body)?.[1])
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const kilobytes = (field: string) => 1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
  const [user = 0, system = 0] = (await readFile(`/proc/${pid}/stat`, 'utf8'))
    .replace(/^.*\) /, '')
    .split(' ')
    .slice(11, 13)
    .map(Number)
  return {
    rss: kilobytes('VmRSS'),
    rssAnon: kilobytes('RssAnon'),
    rssFile: kilobytes('RssFile'),
    heapUsed: metric('nodejs_heap_size_used_bytes'),
    external: metric('nodejs_external_memory_bytes'),
    openFiles: await openFilesOf(pid),
    cpuSeconds: (user + system) / ticksPerSecond,
  }
}

/** User and system time of processes so far, of each without its children. */
export async function cpuSecondsOf(pids: readonly number[]): Promise<number> {
  const each = await Promise.all(
    pids.map(async (pid) => {
      const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ')
      return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
    }),
  )
  return each.reduce((sum, seconds) => sum + seconds, 0)
}

export async function openFilesOf(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length
}

/** Follows the heap of a process until told to end, and gives the least of it: what garbage collection cannot free. */
export function watchHeap(observed: Observed): { end(): Promise<number> } {
  return watchUsage(observed, ({ heapUsed }, floor) => Math.min(heapUsed, floor), Number.POSITIVE_INFINITY)
}

/** Follows the resident memory of a process until told to end, and gives the most of it. */
export function watchRss(observed: Observed): { end(): Promise<number> } {
  return watchUsage(observed, ({ rss }, most) => Math.max(rss, most), 0)
}

function watchUsage(
  observed: Observed,
  fold: (usage: Usage, so: number) => number,
  first: number,
): { end(): Promise<number> } {
  const ended = new AbortController()
  let folded = first
  const watching = (async () => {
    while (!ended.signal.aborted) {
      folded = fold(await usageOf(observed), folded)
      await delay(watchMs, undefined, { signal: ended.signal }).catch(() => {})
    }
  })()
  return {
    async end() {
      ended.abort()
      await watching
      return folded
    },
  }
}

/** Growth of `y` per unit of `x`, by least squares. */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [meanX, meanY] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))]
  const covariance = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0)
  return covariance / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0)
}

export function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1)
}

/** Lines of a table, its columns as wide as they need. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    )
    .join('\n')
}
