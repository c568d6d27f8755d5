/** Applies files of examples/ to an API server, and plays a scheduler, kubelets and the images for their Pods. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import {
  type ControlPlane,
  createObject,
  deleteObjects,
  type KubeObject,
  readObjects,
  reportRunning,
} from '../../envtest/index.ts'
import { type Host, type Lab, type LabProcess, startTestServer } from '../../lab/index.ts'

const folder = new URL('../../../examples/', import.meta.url)

/** Where the Pods of the examples run: pods of the lab, used in turn, by the kind of node. */
export interface Places {
  readonly cloud: readonly Place[]
  readonly edge: readonly Place[]
}

/** A pod of the lab on a node. */
export interface Place {
  readonly node: string
  readonly host: Host
}

interface PodSpec {
  readonly nodeName?: string
  readonly affinity: object
  readonly containers: readonly [{ readonly image: string; readonly ports?: readonly { containerPort: number }[] }]
}

/** A Pod that runs. */
export interface RunningPod {
  readonly name: string
  readonly place: Place
  /** Absent for a Pod that only sleeps. */
  readonly server?: LabProcess
}

/** Examples that are applied. */
export interface AppliedExamples extends AsyncDisposable {
  readonly pods: readonly RunningPod[]
}

/** Applies files and waits until their Pods run; disposal deletes all but the namespaces. */
export async function applyExamples(
  plane: ControlPlane,
  places: Places,
  names: readonly string[],
): Promise<AppliedExamples> {
  const stack = new AsyncDisposableStack()
  const next = { cloud: 0, edge: 0 }
  const pods: RunningPod[] = []
  const created: KubeObject[] = []
  stack.defer(() => deleteObjects(plane, created.toReversed()))
  try {
    const objects = names.flatMap((name) => readObjects(readFileSync(new URL(`${name}.yaml`, folder), 'utf8')))
    for (const object of objects.filter(({ kind }) => kind !== 'Pod')) {
      await createObject(plane, object)
      created.push(object)
    }
    for (const pod of objects.flatMap(podsOf)) {
      const kind = JSON.stringify(specOf(pod).affinity).includes('DoesNotExist') ? 'cloud' : 'edge'
      const place = places[kind][next[kind]++ % places[kind].length]
      assert.ok(place)
      const scheduled = { ...pod, spec: { ...specOf(pod), nodeName: place.node } }
      await createObject(plane, scheduled)
      created.push(scheduled)
      const running = await play(pod, place)
      if (running.server !== undefined) stack.use(running.server)
      pods.push(running)
      const { name, namespace = 'default' } = pod.metadata
      await reportRunning(plane, { name, namespace, ip: place.host.address })
    }
    return { pods, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}

/** What the Deployment controller makes of a Deployment. */
function podsOf(object: KubeObject): KubeObject[] {
  if (object.kind === 'Pod') return [object]
  if (object.kind !== 'Deployment') return []
  const { replicas, template } = object['spec'] as { readonly replicas: number; readonly template: KubeObject }
  const { name, namespace } = object.metadata
  return Array.from({ length: replicas }, (_, index) => ({
    ...template,
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...template.metadata, name: `${name}-${index}`, ...(namespace !== undefined && { namespace }) },
  }))
}

function specOf(pod: KubeObject): PodSpec {
  return pod['spec'] as PodSpec
}

/** Starts on the pod of the lab what the image would. */
async function play(pod: KubeObject, place: Place): Promise<RunningPod> {
  const { name, namespace = 'default' } = pod.metadata
  const [{ image, ports }] = specOf(pod).containers
  const port = ports?.[0]?.containerPort
  if (port === undefined) return { name, place }
  const script = async (file: string, ...args: string[]) => {
    const server = place.host.spawn([process.execPath, join(import.meta.dirname, file), String(port), ...args])
    await server.waitForLine(/^listening/)
    return { name, place, server }
  }
  if (image.includes('echo-server')) return await script('websocket-echo-server.ts')
  if (image.includes('busybox'))
    return await script('banner-echo-server.ts', place.node, name, namespace, place.host.address)
  if (JSON.stringify(pod).includes('--udp=true')) return await script('udp-name-server.ts', name)
  return { name, place, server: await startTestServer(place.host, 'http', { port, name }) }
}

/** Pods of the lab by name, with the nodes that they are on. */
export function placesOf(lab: Lab, pods: Readonly<Record<string, string>>): Place[] {
  return Object.entries(pods).map(([pod, node]) => ({ node, host: lab.pod(pod) }))
}
