import * as client from 'prom-client'
import { addProcessMetrics } from './process-metrics.ts'

/** A number that only grows. Labels must be few and bounded. */
export interface Counter {
  add(value?: number, labels?: Readonly<Record<string, string>>): void
}

/** A number that is set. */
export interface Gauge {
  set(value: number, labels?: Readonly<Record<string, string>>): void
}

/** What a gauge shows for one set of labels. */
export interface Reading {
  readonly value: number
  readonly labels?: Readonly<Record<string, string>>
}

/** Makes metrics and renders them all as Prometheus text. Asking twice for one name gives the same metric. */
export interface Metrics {
  counter(name: string, help: string, labelNames?: readonly string[]): Counter
  gauge(name: string, help: string, labelNames?: readonly string[]): Gauge
  /**
   * Is read whenever metrics are rendered; what is no longer read is gone. A second one replaces the first. It is a gauge, or
   * a counter where the name ends as those of counters do, in `_total`.
   */
  observe(name: string, help: string, labelNames: readonly string[], read: () => readonly Reading[]): void
  render(): Promise<string>
}

/**
 * A registry of its own, so that two of them in one process (tests) do not mix. Names get the prefix `edgemesh_`;
 * what the process takes is there from the start, under the usual names.
 */
export function createMetrics(): Metrics {
  const registry = new client.Registry()
  addProcessMetrics(registry)
  return {
    counter(name, help, labelNames = []) {
      const counter = findOrMake(registry, name, (full) => {
        return new client.Counter({ name: full, help, labelNames: [...labelNames], registers: [registry] })
      })
      return { add: (value = 1, labels = {}) => counter.inc(labels, value) }
    },
    gauge(name, help, labelNames = []) {
      const gauge = findOrMake(registry, name, (full) => {
        return new client.Gauge({ name: full, help, labelNames: [...labelNames], registers: [registry] })
      })
      return { set: (value, labels = {}) => gauge.set(labels, value) }
    },
    observe(name, help, labelNames, read) {
      const full = `edgemesh_${name}`
      registry.removeSingleMetric(full)
      observeAs(name.endsWith('_total') ? 'counter' : 'gauge', read, {
        name: full,
        help,
        labelNames: [...labelNames],
        registers: [registry],
      })
    },
    render: () => registry.metrics(),
  }
}

function observeAs(
  type: 'counter' | 'gauge',
  read: () => readonly Reading[],
  settings: client.MetricConfiguration<string>,
): void {
  if (type === 'counter') {
    const counter = new client.Counter({
      ...settings,
      collect() {
        counter.reset()
        for (const { value, labels = {} } of read()) counter.inc(labels, value)
      },
    })
    return
  }
  const gauge = new client.Gauge({
    ...settings,
    collect() {
      gauge.reset()
      for (const { value, labels = {} } of read()) gauge.set(labels, value)
    },
  })
}

function findOrMake<M extends client.Metric>(registry: client.Registry, name: string, make: (full: string) => M): M {
  const full = `edgemesh_${name}`
  return (registry.getSingleMetric(full) as M | undefined) ?? make(full)
}
