import type { ControlPlane } from './control-plane.ts'

/** What a Pod of a test is. */
export interface TestPod {
  readonly namespace?: string
  readonly name: string
  /** Value of its label `app`. */
  readonly app: string
  readonly node: string
  readonly ip: string
}

/** Makes a Pod that runs and is ready, as a kubelet reports it; there is no kubelet. */
export async function createReadyPod(plane: ControlPlane, pod: TestPod): Promise<void> {
  const { namespace = 'default', name, app, node } = pod
  const spec = { nodeName: node, containers: [{ name: 'main', image: 'none' }] }
  const collection = `/api/v1/namespaces/${namespace}/pods`
  await plane.call('POST', collection, { metadata: { name, labels: { app } }, spec })
  await reportRunning(plane, pod)
}

/** Reports as a kubelet that a Pod, which is there, runs on its node and is ready. */
export async function reportRunning(
  plane: ControlPlane,
  { namespace = 'default', name, ip }: Pick<TestPod, 'namespace' | 'name' | 'ip'>,
): Promise<void> {
  const conditions = [{ type: 'Ready', status: 'True' }]
  const status = { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions }
  await plane.call('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}/status`, { status })
}

/** Deletes a Pod at once. */
export async function deletePod(plane: ControlPlane, name: string, namespace = 'default'): Promise<void> {
  await plane.call('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}?gracePeriodSeconds=0`)
}
