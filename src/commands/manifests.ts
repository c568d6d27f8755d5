import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { CommandContext, CommandInput } from './command.ts'
import { agentEntries } from './manifests/agent.ts'
import { commonEntries } from './manifests/common.ts'
import { gatewayEntries, gatewayNodeLabel, type SecretReference } from './manifests/gateway.ts'
import { istioEntries } from './manifests/istio-kinds.ts'
import { type ManifestEntry, type ManifestSettings, renderManifest } from './manifests/manifest.ts'
import { serverEntries, serverNodeLabel } from './manifests/server.ts'

/** An option of `edgemesh manifests` is missing or makes no sense. */
export class ManifestsOptionError extends Error {
  override readonly name = 'ManifestsOptionError'
  readonly code = 'EDGEMESH_MANIFESTS_OPTION'
  readonly exitCode = 64
}

/** Prints the objects that run edgemesh in a cluster, ready for `kubectl apply -f -`. */
export async function run({ options }: CommandInput, context: CommandContext): Promise<number> {
  const role = String(options['role'] ?? 'all')
  if (role === 'crds') {
    context.out(renderManifest(istioEntries()))
    return 0
  }
  const { notices, ...settings } = readSettings(options)
  const entries = entriesOf(role, settings, readSecrets(role, options))
  const nodeLabel = labelsOfNodes[role]
  if (nodeLabel !== undefined)
    notices.push(`the ${nodeLabel.what} runs on the node with the label: kubectl label node NODE ${nodeLabel.label}=`)
  context.out(renderManifest(entries))
  for (const notice of notices) context.err(`edgemesh: ${notice}\n`)
  return 0
}

const labelsOfNodes: Readonly<Record<string, { readonly what: string; readonly label: string }>> = {
  server: { what: 'server', label: serverNodeLabel },
  all: { what: 'server', label: serverNodeLabel },
  gateway: { what: 'gateway', label: gatewayNodeLabel },
}

/** The objects of a role: `agent`, `server`, `all` for both, or `gateway`, which may read these Secrets. */
export function entriesOf(
  role: string,
  settings: ManifestSettings,
  secrets: readonly SecretReference[] = [],
): ManifestEntry[] {
  if (role === 'gateway') return [...commonEntries(settings), ...gatewayEntries(settings, secrets)]
  return [
    ...commonEntries(settings),
    ...(role === 'agent' ? [] : serverEntries(settings)),
    ...(role === 'server' ? [] : agentEntries(settings)),
  ]
}

function readSettings(options: CommandInput['options']): ManifestSettings & { readonly notices: string[] } {
  const notices: string[] = []
  const namespace = readNamespace(options['namespace'])
  const image = readImage(options['image'])
  const servers = readServers(options['server'])
  return { namespace, image, servers, psk: readPsk(options, namespace, notices), notices }
}

function readNamespace(value: unknown = 'kubeedge'): string {
  const namespace = String(value)
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace)) return namespace
  throw new ManifestsOptionError(`Cannot use --namespace ${namespace}: expected lower-case letters, digits and "-"`)
}

function readImage(value: unknown): string {
  const image = String(value ?? '')
  if (/^(?:[a-z0-9.-]+(?::\d+)?\/)?[a-z0-9._/-]+(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?$/.test(image)) return image
  const problem = value === undefined ? 'it is missing, and no image of edgemesh is published' : `got ${image}`
  throw new ManifestsOptionError(
    `Cannot use --image: ${problem}; build one (manifests/README.md) and name it, such as registry.example.org/edgemesh:1.0`,
  )
}

function readServers(value: unknown): ManifestSettings['servers'] {
  const [first, ...rest] = String(value ?? '')
    .split(',')
    .map((server) => server.trim())
    .filter((server) => server !== '')
  if (first !== undefined) return [first, ...rest]
  throw new ManifestsOptionError(
    'Cannot do without --server: name the address at which all nodes reach the server, such as mesh.example.org:20004',
  )
}

function readSecrets(role: string, options: CommandInput['options']): SecretReference[] {
  const value = options['gatewaySecrets']
  if (value === undefined) return []
  if (role !== 'gateway') {
    throw new ManifestsOptionError('Cannot use --gateway-secrets here: it goes with --role gateway')
  }
  return String(value)
    .split(',')
    .map((text) => readSecret(text.trim()))
}

function readSecret(text: string): SecretReference {
  const { namespace, name } = /^(?<namespace>[-a-z0-9]{1,63})\/(?<name>[-.a-z0-9]{1,253})$/.exec(text)?.groups ?? {}
  if (namespace !== undefined && name !== undefined) return { namespace, name }
  throw new ManifestsOptionError(
    `Cannot use --gateway-secrets: expected NAMESPACE/NAME, several with commas, such as shop/web-tls; got ${text}`,
  )
}

function readPsk(options: CommandInput['options'], namespace: string, notices: string[]): string | undefined {
  const file = options['pskFile']
  if (options['keepPsk'] === true) {
    if (file === undefined) return undefined
    throw new ManifestsOptionError('Cannot take --psk-file together with --keep-psk: one of them is meant')
  }
  if (file !== undefined) return readPskFile(String(file))
  notices.push(
    'a new pre-shared key was made and is part of the output; to read it back for nodes outside of the cluster: ' +
      `kubectl -n ${namespace} get secret edgemesh-psk -o 'jsonpath={.data.psk}' | base64 -d`,
  )
  return Buffer.from(`${randomBytes(32).toString('base64')}\n`).toString('base64')
}

function readPskFile(file: string): string {
  const bytes = readOrThrow(file)
  if (bytes.toString('utf8').trim() !== '') return bytes.toString('base64')
  throw new ManifestsOptionError(`Cannot use --psk-file ${file}: the file is empty`)
}

function readOrThrow(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new ManifestsOptionError(`Cannot read --psk-file ${file}`, { cause })
  }
}
