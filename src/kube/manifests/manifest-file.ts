import type { KubeObjects, ObjectKind } from '../../catalog/index.ts'
import type { ManifestProblem } from '../object-source.ts'
import { parseDestinationRule } from '../objects/destination-rule.ts'
import { parseEndpointSlice } from '../objects/endpoint-slice.ts'
import { parseEndpoints } from '../objects/endpoints.ts'
import { Field, type FieldPath, ObjectParseError } from '../objects/field.ts'
import { parseGateway } from '../objects/gateway.ts'
import { parseIdentity } from '../objects/metadata.ts'
import { parseNode } from '../objects/node.ts'
import type { Note } from '../objects/note.ts'
import { parsePod } from '../objects/pod.ts'
import { parseSecret } from '../objects/secret.ts'
import { parseService } from '../objects/service.ts'
import { parseVirtualService } from '../objects/virtual-service.ts'
import { type ManifestDocument, readDocuments } from './documents.ts'

/** An object for the sink, with its kind. */
export type SinkObject = { [K in ObjectKind]: { readonly kind: K; readonly object: KubeObjects[K] } }[ObjectKind]

/** One object of a file; `id` names it for people and tells when two files define the same. */
export interface ManifestEntry {
  readonly id: string
  readonly objects: readonly SinkObject[]
}

/** What a file says. Objects of kinds that are not asked for are passed over. */
export interface ManifestFile {
  readonly entries: readonly ManifestEntry[]
  readonly problems: readonly ManifestProblem[]
  /** What is left out of objects that are used. */
  readonly notes: readonly ManifestProblem[]
}

interface FileContent {
  readonly kinds: ReadonlySet<ObjectKind>
  readonly entries: ManifestEntry[]
  readonly problems: ManifestProblem[]
  readonly notes: ManifestProblem[]
}

/**
 * Reads the objects of these kinds in the text of one manifest file: YAML documents or JSON, single objects or lists.
 * Never throws.
 */
export function parseManifestFile(file: string, text: string, kinds: ReadonlySet<ObjectKind>): ManifestFile {
  const content: FileContent = { kinds, entries: [], problems: [], notes: [] }
  for (const document of readDocuments(file, text)) {
    const { line, message } = document as Partial<{ line: number; message: string }>
    if (line !== undefined && message !== undefined) content.problems.push({ file, line, message })
    else readObjects(file, document as Readable, content)
  }
  return content
}

type Readable = Exclude<ManifestDocument, { readonly message: string }>

function readObjects(file: string, document: Readable, into: FileContent): void {
  if (document.value === null || document.value === undefined) return
  for (const found of objectsIn(document.value)) {
    const problemOf = ({ path, message }: ObjectParseError): ManifestProblem => {
      return { file, line: document.lineOf([...found.path, ...path]), message }
    }
    try {
      into.entries.push(...parseEntry(found, into.kinds, (problem) => into.notes.push(problemOf(problem))))
    } catch (error) {
      if (!(error instanceof ObjectParseError)) throw error
      into.problems.push(problemOf(error))
    }
  }
}

interface FoundObject {
  readonly apiVersion: string
  readonly kind: string
  readonly value: unknown
  readonly path: FieldPath
}

/** The object itself, or the items of a List; items of a typed list need not repeat their kind. */
function objectsIn(value: unknown): FoundObject[] {
  const { kind, apiVersion, items } = (typeof value === 'object' ? value : {}) as Readonly<Record<string, unknown>>
  if (typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) return [foundObject(value, [])]
  const itemKind = kind === 'List' ? {} : { kind: kind.slice(0, -'List'.length), apiVersion }
  return items.map((item: unknown, index) => foundObject(item, ['items', index], itemKind))
}

function foundObject(value: unknown, path: FieldPath, defaults: Readonly<Record<string, unknown>> = {}): FoundObject {
  const fields = typeof value === 'object' ? { ...defaults, ...value } : {}
  const { kind, apiVersion } = fields as Readonly<Record<string, unknown>>
  return { apiVersion: String(apiVersion ?? ''), kind: String(kind ?? ''), value, path }
}

function parseEntry(
  { apiVersion, kind, value }: FoundObject,
  kinds: ReadonlySet<ObjectKind>,
  note: Note,
): ManifestEntry[] {
  if (kind === '') throw new ObjectParseError(['kind'], undefined, 'is missing, so this is no Kubernetes object')
  const readable = readableKinds.get(`${apiVersion} ${kind}`)
  if (readable === undefined || !kinds.has(readable.kind)) return []
  const objects = readable.parse(value, note).map((object) => ({ kind: readable.kind, object }) as SinkObject)
  return [{ id: `${kind} ${nameOf(kind, value)}`, objects }]
}

function nameOf(kind: string, value: unknown): string {
  const { namespace, name } = parseIdentity(new Field(value))
  return kind === 'Node' ? name : `${namespace}/${name}`
}

/** How objects of a kind are read; one object may become several or none. */
interface ReadableKind {
  readonly kind: ObjectKind
  readonly parse: (value: unknown, note: Note) => readonly KubeObjects[ObjectKind][]
}

const slices: ReadableKind = {
  kind: 'endpointSlices',
  parse: (value, note) => [parseEndpointSlice(value, note)].filter((slice) => slice !== undefined),
}
const destinationRules: ReadableKind = {
  kind: 'destinationRules',
  parse: (value, note) => [parseDestinationRule(value, note)],
}

const gateways: ReadableKind = { kind: 'gateways', parse: (value) => [parseGateway(value)] }
const virtualServices: ReadableKind = { kind: 'virtualServices', parse: (value) => [parseVirtualService(value)] }

/** By API version and kind; all others are passed over. */
const readableKinds: ReadonlyMap<string, ReadableKind> = new Map<string, ReadableKind>([
  ['v1 Service', { kind: 'services', parse: (value, note) => [parseServiceOfFolder(value, note)] }],
  ['v1 Endpoints', { kind: 'endpointSlices', parse: parseEndpoints }],
  ['v1 Node', { kind: 'nodes', parse: (value) => [parseNode(value)] }],
  ['v1 Pod', { kind: 'pods', parse: (value, note) => [parsePod(value, note)] }],
  ['v1 Secret', { kind: 'secrets', parse: (value) => [parseSecret(value)] }],
  ['discovery.k8s.io/v1 EndpointSlice', slices],
  ['discovery.k8s.io/v1beta1 EndpointSlice', slices],
  ['networking.istio.io/v1 DestinationRule', destinationRules],
  ['networking.istio.io/v1beta1 DestinationRule', destinationRules],
  ['networking.istio.io/v1alpha3 DestinationRule', destinationRules],
  ['networking.istio.io/v1 Gateway', gateways],
  ['networking.istio.io/v1beta1 Gateway', gateways],
  ['networking.istio.io/v1alpha3 Gateway', gateways],
  ['networking.istio.io/v1 VirtualService', virtualServices],
  ['networking.istio.io/v1beta1 VirtualService', virtualServices],
  ['networking.istio.io/v1alpha3 VirtualService', virtualServices],
])

function parseServiceOfFolder(value: unknown, note: Note) {
  const service = parseService(value, note)
  if (service.type !== 'ExternalName' && !service.headless && service.clusterIPs.length === 0) {
    const problem = 'must be an address or None; in a folder of manifests nothing allocates one'
    throw new ObjectParseError(['spec', 'clusterIP'], undefined, problem)
  }
  return service
}
