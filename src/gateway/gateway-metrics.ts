import type { Metrics, Reading } from '../observability/index.ts'
import type { RequestRecord } from './requests/request-handler.ts'
import type { StreamEnd } from './streams/carry-stream.ts'

/** Counts what a gateway does. Labels come from objects, never from clients. */
export interface GatewayMetrics {
  request(record: RequestRecord): void
  stream(route: string, end: StreamEnd): void
  refused(): void
}

/** Upper limits of the duration buckets, in seconds. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const
/** Routes beyond this many are counted together, so that nobody's objects fill the memory of those who scrape. */
const mostRoutes = 1000

/** Requests by the first digit of their status. */
type CountsByClass = number[]

/** The metrics of a gateway. Counts are plain numbers until somebody asks, because every request changes several. */
export function createGatewayMetrics(metrics: Metrics): GatewayMetrics {
  const requests = new BoundedByRoute()
  const durations = new DurationCounts()
  const bytes = { in: 0, out: 0 }
  const refused = metrics.counter('gateway_refused_total', 'Connections and requests that never became one')
  const connections = metrics.counter('gateway_streams_total', 'Connections of tcp and tls rules', ['route', 'result'])
  metrics.observe('gateway_requests_total', 'Requests by route and class of status', ['route', 'code'], () =>
    requests.readings(),
  )
  metrics.observe('gateway_bytes_total', 'Bytes of bodies and connections', ['direction'], () => [
    { value: bytes.in, labels: { direction: 'in' } },
    { value: bytes.out, labels: { direction: 'out' } },
  ])
  durations.register(metrics)
  return {
    request({ route, status, durationMs, bytesIn, bytesOut }) {
      const counts = requests.of(route)
      const code = Math.floor(status / 100)
      counts[code] = (counts[code] ?? 0) + 1
      durations.add(durationMs / 1000)
      bytes.in += bytesIn
      bytes.out += bytesOut
    },
    stream(route, { bytesIn, bytesOut, problem }) {
      const result = problem === undefined ? 'carried' : 'failed'
      connections.add(1, { route: requests.nameOf(route), result })
      bytes.in += bytesIn
      bytes.out += bytesOut
    },
    refused: () => refused.add(),
  }
}

/** Counts for each route, up to so many routes. */
class BoundedByRoute {
  readonly #counts = new Map<string, CountsByClass>()

  /** The name that a route goes by in labels. */
  nameOf(route: string): string {
    if (route === '') return 'none'
    if (this.#counts.has(route)) return route
    if (this.#counts.size >= mostRoutes) return 'other'
    this.#counts.set(route, [])
    return route
  }

  of(route: string): CountsByClass {
    const known = this.#counts.get(route)
    if (known !== undefined) return known
    const name = this.nameOf(route)
    const counts = this.#counts.get(name) ?? []
    this.#counts.set(name, counts)
    return counts
  }

  readings(): Reading[] {
    return [...this.#counts].flatMap(([route, counts]) =>
      counts.flatMap((value, code) => ({ value, labels: { route, code: `${code}xx` } })),
    )
  }
}

/** A histogram; what is in a bucket is added to the larger ones when it is read. */
class DurationCounts {
  readonly #inBucket = [...buckets.map(() => 0), 0]
  #count = 0
  #sum = 0

  add(seconds: number): void {
    let at = 0
    while (at < buckets.length && seconds > (buckets[at] ?? 0)) at += 1
    this.#inBucket[at] = (this.#inBucket[at] ?? 0) + 1
    this.#count += 1
    this.#sum += seconds
  }

  register(metrics: Metrics): void {
    const name = 'gateway_request_duration_seconds'
    metrics.observe(`${name}_bucket`, 'Requests that took at most so long', ['le'], () => this.#readings())
    metrics.observe(`${name}_sum`, 'Time of all requests', [], () => [{ value: this.#sum }])
    metrics.observe(`${name}_count`, 'Requests', [], () => [{ value: this.#count }])
  }

  #readings(): Reading[] {
    let value = 0
    return this.#inBucket.map((count, at) => {
      value += count
      return { value, labels: { le: String(buckets[at] ?? '+Inf') } }
    })
  }
}
