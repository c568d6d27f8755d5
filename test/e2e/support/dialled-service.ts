import { stringify } from 'yaml'
import { endpointSliceManifest, type Lab, serviceManifest, startTestServer } from '../../lab/index.ts'
import { eventually } from './site.ts'

const clusterIP = '10.96.0.10'
const port = 7_000

/**
 * A Service of the pod `web` on `edge-a1` with a rule that limits open connections, which takes the userspace proxy
 * of the agent; that is started here. The pod echoes.
 */
export async function startLimitedService(lab: Lab): Promise<{ readonly clusterIP: string; readonly port: number }> {
  const web = lab.pod('web')
  await startTestServer(web, 'echo', { port })
  const ports = [{ name: 'tcp-echo', port }]
  const endpoints = [{ address: web.address, nodeName: 'edge-a1' }]
  const rule = {
    apiVersion: 'networking.istio.io/v1beta1',
    kind: 'DestinationRule',
    metadata: { namespace: 'default', name: 'web' },
    spec: { host: 'web', trafficPolicy: { connectionPool: { tcp: { maxConnections: 10_000 } } } },
  }
  const parts = [
    serviceManifest({ name: 'web', clusterIP, ports }),
    endpointSliceManifest({ serviceName: 'web', ports, endpoints }),
    stringify(rule),
  ]
  await lab.writeManifest('web.yaml', parts.join('---\n'))
  await lab.startAgent('edge-a1')
  await eventually(15_000, async () => {
    const probe = ['sh', '-c', `echo hi | timeout 2 bash -c 'exec 3<>/dev/tcp/${clusterIP}/${port}'`]
    const { code, stderr } = await lab.node('edge-a1').exec(probe)
    if (code !== 0) throw new Error(stderr)
  })
  return { clusterIP, port }
}
