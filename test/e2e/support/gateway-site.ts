/** What the tests of the gateway have in common. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import type { Host, Lab, LabProcess } from '../../lab/index.ts'

/** Files of this folder that run as processes. */
export const backendScript = fileURLToPath(new URL('gateway-backend.ts', import.meta.url))
export const clientScript = fileURLToPath(new URL('gateway-client.ts', import.meta.url))

/** A Kubernetes object with a spec. */
export function kube(apiVersion: string, kind: string, namespace: string, name: string, spec: object) {
  return { apiVersion, kind, metadata: { namespace, name }, spec }
}

let addresses = 0

/** A Service and its endpoints, which listen on the ports after `base` of the node itself. */
export function serviceWith(
  namespace: string,
  name: string,
  ports: readonly { readonly name: string; readonly port: number }[],
  endpoints: readonly { readonly pod: string; readonly base: number; readonly address?: string }[],
  nodeName: string,
): object[] {
  addresses += 1
  return [
    kube('v1', 'Service', namespace, name, { clusterIP: `10.96.7.${addresses}`, ports }),
    ...endpoints.map(({ pod, base, address = '127.0.0.1' }) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { namespace, name: `${name}-${pod}`, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: ports.map(({ name: portName }, index) => ({ name: portName, port: base + index })),
      endpoints: [{ addresses: [address], nodeName, targetRef: { kind: 'Pod', namespace, name: pod } }],
    })),
  ]
}

/** Makes NAME.crt and NAME.key in the host's folder. */
export async function certificate(host: Host, name: string, hosts: readonly string[]): Promise<void> {
  const file = (ending: string) => join(host.dir, `${name}.${ending}`)
  const { code, stderr } = await host.exec([
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', `/CN=${name}`, '-addext', `subjectAltName=${hosts.map((dns) => `DNS:${dns}`).join(',')}`],
    ...['-keyout', file('key'), '-out', file('crt')],
  ])
  if (code !== 0) throw new Error(stderr)
}

/** A Secret with the certificate that `certificate` made. */
export async function secretOf(host: Host, certificateName: string, name = certificateName, more: object = {}) {
  const read = (ending: string) => readFile(join(host.dir, `${certificateName}.${ending}`), 'base64')
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace: 'shop', name },
    data: { 'tls.crt': await read('crt'), 'tls.key': await read('key'), ...more },
  }
}

/** Writes the configuration of a gateway of that name; the file's name. */
export async function gatewayConfig(
  host: Host,
  lab: Lab,
  edgeGateway: object = {},
  { name = 'gateway', kubeAPIConfig = { manifests: lab.manifests } as object } = {},
): Promise<string> {
  const file = join(host.dir, `edgemesh-${name}.yaml`)
  const config = {
    kind: 'EdgeMeshGateway',
    nodeName: host.name,
    stateDir: join(host.dir, name, 'state'),
    runtimeDir: join(host.dir, name, 'run'),
    kubeAPIConfig,
    modules: { edgeGateway: { enable: true, accessLog: { mode: 'on' }, ...edgeGateway } },
  }
  await writeFile(file, stringify(config))
  return file
}

/** Runs a script of ours on a host. */
export function nodeProcess(host: Host, argv: readonly string[]): LabProcess {
  return host.spawn([process.execPath, ...argv])
}

/** An answer as curl got it; status 0 when there was none. */
export interface HttpAnswer {
  readonly status: number
  /** `1.1` or `2`. */
  readonly version: string
  /** By lower-case name; the last one of several. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Asks with curl; every name is this host. */
export async function curl(host: Host, url: string, ...options: readonly string[]): Promise<HttpAnswer> {
  const { hostname, port } = new URL(url)
  const resolve = ['--resolve', `${hostname}:${port}:127.0.0.1`]
  const { stdout } = await host.exec(['curl', '-s', '-i', '-m', '20', ...resolve, ...options, url], {
    timeoutMs: 30_000,
  })
  const end = stdout.indexOf('\r\n\r\n')
  const lines = stdout.slice(0, end === -1 ? 0 : end).split('\r\n')
  const [, version = '', status = '0'] = /^HTTP\/([\d.]+) (\d+)/.exec(lines[0] ?? '') ?? []
  const headers = lines.slice(1).map((line) => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
  })
  return { status: Number(status), version, headers: Object.fromEntries(headers), body: stdout.slice(end + 4) }
}
