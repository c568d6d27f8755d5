import { readdir } from 'node:fs/promises'
import process from 'node:process'
import * as client from 'prom-client'

/**
 * What the process itself takes, under the names that dashboards for Node know. Read when somebody asks, so an idle
 * process does no work for it. Without /proc there are no file descriptors to count and their gauge stays 0.
 */
export function addProcessMetrics(registry: client.Registry): void {
  const gauge = (name: string, help: string, read: () => number | Promise<number>) => {
    return new client.Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        this.set(await read())
      },
    })
  }
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', () => process.memoryUsage.rss())
  gauge('process_open_fds', 'Number of open file descriptors.', countOpenFiles)
  gauge('nodejs_heap_size_used_bytes', 'JavaScript objects in bytes.', () => process.memoryUsage().heapUsed)
  gauge('nodejs_heap_size_total_bytes', 'JavaScript heap in bytes.', () => process.memoryUsage().heapTotal)
  gauge('nodejs_external_memory_bytes', 'Buffers and other memory held by JavaScript objects in bytes.', () => {
    return process.memoryUsage().external
  })
}

/** Listing the folder takes a descriptor of its own, which is not counted. */
async function countOpenFiles(): Promise<number> {
  const listed = await readdir('/proc/self/fd').catch(() => undefined)
  return listed === undefined ? 0 : listed.length - 1
}
