/** Manifests of a lab in an API double that runs on one of its nodes. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { type KubeObject, readObjects } from '../../envtest/index.ts'
import type { DoubleChange, DoubleSettings } from '../../integration/support/api-double-process.ts'
import type { Host, LabProcess, ManifestStore } from '../../lab/index.ts'

const pathsByKind: Readonly<Record<string, string>> = {
  Service: '/api/v1/services',
  Node: '/api/v1/nodes',
  Pod: '/api/v1/pods',
  Secret: '/api/v1/secrets',
  EndpointSlice: '/apis/discovery.k8s.io/v1/endpointslices',
  DestinationRule: '/apis/networking.istio.io/v1beta1/destinationrules',
  Gateway: '/apis/networking.istio.io/v1beta1/gateways',
  VirtualService: '/apis/networking.istio.io/v1beta1/virtualservices',
}

/** The double, and what puts manifests into it. */
export interface DoubleStore extends ManifestStore {
  /** Offers the objects of a kind from now on, as when their definition is installed; forgotten when it starts again. */
  serve(kind: string): Promise<void>
  /** Ends it as a power cut does. */
  kill(): Promise<void>
  /** Starts it again with what it held. */
  restart(): Promise<void>
}

/** Starts the double on a host, where agents of that host alone reach it. */
export async function startDoubleStore(
  host: Host,
  settings: DoubleSettings,
  kubeAPIConfig: ManifestStore['kubeAPIConfig'],
): Promise<DoubleStore> {
  const script = join(import.meta.dirname, '../../integration/support/api-double-process.ts')
  const start = async (held: readonly KubeObject[] = []): Promise<LabProcess> => {
    const objects = held.map((object) => ({ path: pathOf(object), object }))
    const started = host.spawn([process.execPath, script, JSON.stringify({ ...settings, objects })])
    await started.waitForLine(/^listening$/)
    return started
  }
  let double = await start()
  const files = new Map<string, readonly KubeObject[]>()
  const change = async (kind: string, body: DoubleChange) => {
    const url = `http://127.0.0.1:${settings.port + 1}/${kind}`
    const { stdout } = await host.exec(['curl', '-sS', '--data-binary', '@-', url], { input: JSON.stringify(body) })
    assert.equal(stdout, 'done\n')
  }
  const put = async (objects: readonly KubeObject[]) => {
    for (const object of objects) await change('put', { path: pathOf(object), object })
  }
  return {
    kubeAPIConfig,
    async serve(kind) {
      await change('serve', { path: pathsByKind[kind] ?? assert.fail(`no path of ${kind}`) })
    },
    async kill() {
      await double.stop('SIGKILL')
    },
    async restart() {
      double = await start([...files.values()].flat())
    },
    async write(name, yamlText) {
      const objects = readObjects(yamlText)
      files.set(name, objects)
      await put(objects)
    },
    async remove(name) {
      for (const object of files.get(name) ?? []) {
        await change('remove', { path: pathOf(object), ...object.metadata })
      }
      files.delete(name)
    },
    [Symbol.asyncDispose]: () => double[Symbol.asyncDispose](),
  }
}

function pathOf({ kind }: KubeObject): string {
  const path = pathsByKind[kind]
  if (path === undefined) throw new Error(`The double does not know where ${kind} belongs; add it to the table`)
  return path
}
