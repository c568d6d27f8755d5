/** The contract of sources, for API servers and metaServers made of scripts. */
import { kubeSchema } from '../../src/kube/config.ts'
import { startApiSource } from '../../src/kube/index.ts'
import {
  describeMoreKinds,
  describeObjectSource,
  type OriginUnderTest,
  type WrittenObject,
} from '../../src/kube/object-source.contract.ts'
import { createMetrics, silentLogger } from '../../src/observability/index.ts'
import { ApiDouble, type DoubleHabits } from './support/api-double.ts'
import { paths, serviceObject, sliceObject } from './support/api-objects.ts'
import { quickTiming } from './support/api-source.ts'

const pathByKind: Readonly<Record<WrittenObject['kind'], string>> = {
  Service: paths.services,
  EndpointSlice: paths.slicesV1,
  Node: paths.nodes,
  DestinationRule: paths.rulesV1beta1,
  Pod: paths.pods,
}

async function createOrigin(habits: DoubleHabits, configOf: (url: string) => object): Promise<OriginUnderTest> {
  const double = await new ApiDouble({ served: Object.values(pathByKind), habits }).start()
  // Every cluster has this much.
  const metadata = { name: 'kubernetes', namespace: 'default' }
  double.put(paths.services, { ...serviceObject('kubernetes'), metadata })
  double.put(paths.slicesV1, { ...sliceObject('kubernetes', ['192.0.2.1']), metadata })
  return {
    start: async (sink, kinds) =>
      startApiSource({
        ...(kinds && { kinds }),
        nodeName: 'edge-a',
        config: kubeSchema.parse(configOf(double.url)),
        env: {},
        sink,
        logger: silentLogger,
        metrics: createMetrics(),
        userAgent: 'edgemesh/test',
        serviceAccount: '/nonexistent',
        timing: quickTiming,
      }),
    write: async (object) => double.put(pathByKind[object.kind], object),
    delete: async ({ kind, metadata }) => double.remove(pathByKind[kind], metadata.name, metadata.namespace),
    goAway: () => double.stop(),
    comeBack: async () => void (await double.start()),
    [Symbol.asyncDispose]: () => double.stop(),
  }
}

for (const [name, habits, configOf] of [
  ['an API server', {}, (url) => ({ master: url })],
  ['an API server that answers in pieces, compressed', { chunkBytes: 7, gzip: true }, (url) => ({ master: url })],
  [
    'metaServer',
    { ignoresLimit: true, oddSelfLink: true, withoutHistory: true },
    (url) => ({ metaServer: { server: url } }),
  ],
  [
    'a metaServer whose lists have no resource version',
    { ignoresLimit: true, withoutHistory: true, withoutResourceVersion: true },
    (url) => ({ metaServer: { server: url } }),
  ],
] as const satisfies readonly (readonly [string, DoubleHabits, (url: string) => object])[]) {
  const make = () => createOrigin(habits, configOf)
  describeObjectSource(name, make)
  describeMoreKinds(name, make)
}
