/**
 * A real Kubernetes control plane for tests: etcd, kube-apiserver and the controllers that make endpoints. There is
 * no kubelet: tests write Pods and their status themselves.
 *
 *     await using plane = await ControlPlane.start({ controllers: true })
 *     await plane.call('POST', '/api/v1/namespaces/default/services', {...})
 *
 * Its ports are fixed, so it runs in namespaces of its own: under scripts/isolated, or on a host of a lab:
 *
 *     await using plane = await ControlPlane.start({ host: lab.node('cloud-1') })
 *
 * @module
 */
export * from './api-manifests.ts'
export * from './binaries.ts'
export * from './certificates.ts'
export * from './control-plane.ts'
export * from './kube-objects.ts'
export * from './many-services.ts'
export * from './pods.ts'
export { curlUserAgent } from './transport.ts'
