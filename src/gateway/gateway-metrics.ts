import type { Metrics } from '../observability/index.ts'
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

/** The metrics of a gateway. */
export function createGatewayMetrics(metrics: Metrics): GatewayMetrics {
  const requests = new Map<string, { count: number; route: string; code: string }>()
  const histogram = buckets.map(() => 0)
  let durations = { count: 0, sum: 0 }
  const routes = new Set<string>()
  const bytes = metrics.counter('gateway_bytes_total', 'Bytes of bodies and connections', ['direction'])
  const refused = metrics.counter('gateway_refused_total', 'Connections and requests that never became one')
  const connections = metrics.counter('gateway_streams_total', 'Connections of tcp and tls rules', ['route', 'result'])
  metrics.observe('gateway_requests_total', 'Requests by route and class of status', ['route', 'code'], () =>
    [...requests.values()].map(({ count, route, code }) => ({ value: count, labels: { route, code } })),
  )
  metrics.observe('gateway_request_duration_seconds_bucket', 'Requests that took at most so long', ['le'], () => [
    ...buckets.map((limit, at) => ({ value: histogram[at] ?? 0, labels: { le: String(limit) } })),
    { value: durations.count, labels: { le: '+Inf' } },
  ])
  metrics.observe('gateway_request_duration_seconds_sum', 'Time of all requests', [], () => [{ value: durations.sum }])
  metrics.observe('gateway_request_duration_seconds_count', 'Requests', [], () => [{ value: durations.count }])
  const bounded = (route: string) => {
    if (route === '') return 'none'
    if (routes.has(route)) return route
    if (routes.size >= mostRoutes) return 'other'
    routes.add(route)
    return route
  }
  return {
    request({ route: named, status, durationMs, bytesIn, bytesOut }) {
      const route = bounded(named)
      const code = `${Math.floor(status / 100)}xx`
      const key = `${code}${route}`
      const known = requests.get(key)
      if (known === undefined) requests.set(key, { count: 1, route, code })
      else known.count += 1
      const seconds = durationMs / 1000
      for (let at = buckets.length - 1; at >= 0 && seconds <= (buckets[at] ?? 0); at--)
        histogram[at] = (histogram[at] ?? 0) + 1
      durations = { count: durations.count + 1, sum: durations.sum + seconds }
      if (bytesIn > 0) bytes.add(bytesIn, { direction: 'in' })
      if (bytesOut > 0) bytes.add(bytesOut, { direction: 'out' })
    },
    stream(route, { bytesIn, bytesOut, problem }) {
      connections.add(1, { route: bounded(route), result: problem === undefined ? 'carried' : 'failed' })
      bytes.add(bytesIn, { direction: 'in' })
      bytes.add(bytesOut, { direction: 'out' })
    },
    refused: () => refused.add(),
  }
}
