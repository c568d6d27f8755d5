/** Istio's kinds in a real API server. */
import { join } from 'node:path'
import process from 'node:process'
import type { ControlPlane } from '../../envtest/index.ts'
import type { DoubleSettings } from '../../integration/support/api-double-process.ts'
import type { Host } from '../../lab/index.ts'
import { eventually } from './site.ts'

const group = 'networking.istio.io'
const version = 'v1beta1'
const path = `/apis/${group}/${version}`
const port = 7443

/**
 * Makes the API server offer DestinationRules, Gateways and VirtualServices by its aggregation layer: it decides who may
 * do what, and a double beside it holds the objects. Reading the metadata of any custom resource of its own ends
 * Kubernetes 1.20 when it is compiled with Go 1.18 or later.
 */
export async function offerIstioKinds(plane: ControlPlane, host: Host): Promise<void> {
  const tls = await plane.authority.issue('istio-kinds', { addresses: [host.address] })
  const served = ['destinationrules', 'gateways', 'virtualservices'].map((plural) => `${path}/${plural}`)
  const settings: DoubleSettings = { port, host: host.address, tls, served }
  const script = join(import.meta.dirname, '../../integration/support/api-double-process.ts')
  const double = host.spawn([process.execPath, script, JSON.stringify(settings)])
  await double.waitForLine(/^listening$/)
  const metadata = { name: 'istio-kinds', namespace: 'default' }
  await plane.call('POST', '/api/v1/namespaces/default/services', { metadata, spec: { ports: [{ port: 443 }] } })
  await plane.call('POST', '/api/v1/namespaces/default/endpoints', {
    metadata,
    subsets: [{ addresses: [{ ip: host.address }], ports: [{ port }] }],
  })
  await plane.call('POST', '/apis/apiregistration.k8s.io/v1/apiservices', {
    metadata: { name: `${version}.${group}` },
    spec: {
      group,
      version,
      groupPriorityMinimum: 1000,
      versionPriority: 10,
      insecureSkipTLSVerify: true,
      service: { ...metadata, port: 443 },
    },
  })
  await eventually(30_000, async () => void (await plane.call('GET', `${path}/gateways`)))
}
