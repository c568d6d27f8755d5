/**
 * Makes many Services with an EndpointSlice each, over connections that stay open: `write-services.ts SETTINGS`, the
 * settings as JSON. Prints `written` at the end.
 */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import process from 'node:process'
import { text } from 'node:stream/consumers'

interface Settings {
  readonly url: string
  readonly caFile: string
  readonly token: string
  readonly count: number
  /** Named in the endpoints in turn. */
  readonly nodes: readonly string[]
}

const { url, caFile, token, count, nodes }: Settings = JSON.parse(process.argv[2] ?? '')
const agent = new Agent({ keepAlive: true, maxSockets: 16, ca: readFileSync(caFile) })
const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'user-agent': 'edgemesh-test' }

async function post(path: string, object: object): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const sent = request(`${url}${path}`, { method: 'POST', agent, headers }, (response) => {
    text(response).then((body) => {
      if (response.statusCode === 201) resolve()
      else reject(new Error(`${path}: ${response.statusCode} ${body}`))
    }, reject)
  })
  sent.on('error', reject).end(JSON.stringify(object))
  await promise
}

async function write(index: number): Promise<void> {
  const name = `bulk-${index}`
  const ports = [
    { name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 },
    { name: 'https', port: 443, protocol: 'TCP', targetPort: 8443 },
  ]
  const clusterIP = `10.96.${100 + (index >> 7)}.${1 + (index & 127)}`
  await post('/api/v1/namespaces/default/services', { metadata: { name }, spec: { clusterIP, ports } })
  await post('/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices', {
    metadata: { name: `${name}-x7f2k`, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: ports.map((port) => ({ name: port.name, port: port.targetPort, protocol: port.protocol })),
    endpoints: [0, 1, 2].map((replica) => ({
      addresses: [`10.${200 + replica}.${index >> 8}.${index & 255}`],
      conditions: { ready: true },
      topology: { 'kubernetes.io/hostname': nodes[(index + replica) % nodes.length] },
      targetRef: { kind: 'Pod', namespace: 'default', name: `${name}-6d5f9c7b8-${index}${replica}` },
    })),
  })
}

let next = 0
async function work(): Promise<void> {
  for (let index = next++; index < count; index = next++) await write(index)
}

await Promise.all(Array.from({ length: 16 }, work))
agent.destroy()
console.log('written')
