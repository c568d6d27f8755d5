import type { Backend, EndpointSlice, Service, ServicePort } from '../model/index.ts'
import { selectBackends } from './backends.ts'

/** The slices of one Service; the backends of its ports are computed when first asked and then kept. */
export class ServiceSlices {
  readonly slices: readonly EndpointSlice[]
  readonly #backends = new Map<string, readonly Backend[]>()

  constructor(slices: readonly EndpointSlice[]) {
    this.slices = slices
  }

  backendsOf(service: Service, port: ServicePort): readonly Backend[] {
    const key = `${port.protocol} ${service.publishNotReadyAddresses} ${port.name}`
    const known = this.#backends.get(key)
    if (known !== undefined) return known
    const backends = selectBackends(service, port, this.slices)
    this.#backends.set(key, backends)
    return backends
  }
}

/** Of a Service without slices. */
export const noSlices = new ServiceSlices([])
